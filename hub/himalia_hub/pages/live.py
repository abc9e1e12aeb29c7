"""What changes, for everybody who watches: one reader of the rows in each hub, however many pages are open.

The bell says which server changed; where it cannot (a person was added, a row was changed by `himalia user`), the
database's revision says that something did, and all rows are compared. Nothing is read while nobody watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.db.memo import Memo
from himalia_hub.db.shared import Shared
from himalia_hub.keys import DOORBELL, MEMO
from himalia_hub.measures.models import ServerUse
from himalia_hub.notices import store as notices
from himalia_hub.pages.admin import listing
from himalia_hub.pages.admin.listing import Found
from himalia_hub.pages.admin.rows import row_id
from himalia_hub.secrets import mint
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.models import Server
from himalia_hub.users.models import User

log = structlog.get_logger()
V = TypeVar("V")

PAUSE_S = 0.25
"""At most four times a second, whatever happens: changes in between are one."""
COMPARE_S = 2.0
COUNTED_S = 10
"""One of the numbers, who is idle, changes by the clock alone."""
ANY = 0
KEPT = 2000
"""Changes that a page which lost its connection can catch up with; about three minutes of a class that starts."""

_SEEN = (
    User.id, Server.id, sa.func.coalesce(Server.name, ""), User.name, User.admin, User.suspended,
    Server.display_name, Server.desired, Server.phase, Server.phase_since, Server.generation,
    Server.acted_generation, Server.unknown_since, Server.last_activity,
    Server.kept_alive_until, Server.node,
)  # fmt: skip
"""What a row shows; `Server.failure` changes with its phase."""
_USED = ServerUse.memory, ServerUse.cpus
"""What changes all the time, and is sent alone: nobody's row is drawn for it, nor announced."""


@dataclass(slots=True)
class Change:
    """A row that is another now, or is gone (`found` is None).

    `only_use` where nothing but what its server uses has changed.
    """

    rev: int
    row: str
    user_id: int
    found: Found | None
    only_use: bool = False


_Look = tuple[dict[str, tuple[Any, ...]], list[tuple[str, Found, bool]]]
"""What was seen of rows, by their names on the page; and those that changed, with whether only their use did."""


class Live:
    """The one reader. `rev` counts its rounds with changes; with `epoch` it names a moment of this hub's life."""

    def __init__(self, memo: Memo, doorbell: Doorbell) -> None:
        self._memo, self._db, self._doorbell = memo, memo.db, doorbell
        self.epoch, self.rev, self.closing = mint(6), 0, False
        self._ring: deque[Change] = deque(maxlen=KEPT)
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._rung: set[int] = set()
        self._bell, self._news = asyncio.Event(), asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.logins: Counter[str] = Counter()
        self._shared, self._made, self._made_at = Shared(), dict[Hashable, object](), 0
        self._said: tuple[object, ...] | None = None

    # ---- for those who watch

    @contextlib.asynccontextmanager
    async def watching(self, login: str = "") -> AsyncIterator[None]:
        """While inside, changes are read. The first one in waits until the rows have been looked at once.

        `logins` counts by whom (hashes of their cookies): so all can be asked for at once.
        """
        self.logins[login] += 1
        try:
            if self._task is None:
                self._doorbell.listen(self._heard)
                self._task = asyncio.create_task(self._run(), name="pages.live")
            async with self._news:
                await self._news.wait_for(lambda: bool(self.rev) or self.closing)
            yield
        finally:
            self.logins[login] -= 1
            self.logins += Counter()  # without those that are zero
            if not self.logins:
                await self._rest()

    def since(self, event_id: str) -> list[Change] | None:
        """The last change of each row after this event; None when that is too long ago, or of another life."""
        epoch, _, text = event_id.rpartition("-")  # a minted name may hold a dash itself
        if epoch != self.epoch or not text.isdigit():
            return None
        rev = int(text)
        if self._ring and len(self._ring) == KEPT and self._ring[0].rev > rev + 1:
            return None
        later = (change for change in self._ring if change.rev > rev)
        return list({(change.row, change.only_use): change for change in later}.values())

    async def once(self, key: Hashable, make: Callable[[], Awaitable[V]]) -> V:
        """What `make()` gives: made once in a round for all who watch and would get the same."""
        rev = self.rev
        if self._made_at != rev:
            self._made, self._made_at = {}, rev
        if key in self._made:
            return cast("V", self._made[key])
        value = await self._shared.one((rev, key), make)
        if self._made_at == rev:
            self._made[key] = value
        return value

    async def later(self, rev: int, *, at_most_s: float) -> None:
        """Until there is something after `rev`, the hub ends, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s), self._news:
                await self._news.wait_for(lambda: self.rev > rev or self.closing)

    async def counts(self, only: frozenset[str] | None) -> dict[str, int]:
        """The chips' numbers as this viewer may know them: counted once for all, until anything is committed."""
        now = clock.now()

        async def count() -> dict[str, int]:
            return await self._db.read_in_one(lambda db: listing.counts(db, now=now, only=only))

        return await self._memo.get(("counts", only, int(now.timestamp()) // COUNTED_S), count)

    @property
    def event_id(self) -> str:
        """The name of this moment, as `Last-Event-ID` brings it back."""
        return f"{self.epoch}-{self.rev}"

    async def close(self) -> None:
        """Let everybody go: the hub ends."""
        self.closing = True
        async with self._news:
            self._news.notify_all()
        await self._rest()

    # ---- the reader

    def _heard(self, server_id: int | None) -> None:
        self._rung.add(server_id or ANY)
        self._bell.set()

    async def _run(self) -> None:
        at, compared = None, 0.0
        while True:
            try:
                rung, self._rung = self._rung, set()
                now_at = await self._db.revision.now()
                due = ANY in rung or time.monotonic() - compared > COMPARE_S
                if not self.rev or (due and (now_at is None or now_at != at)):
                    await self._compare(None)
                    at, compared = now_at, time.monotonic()
                elif servers := rung - {ANY}:
                    await self._compare(servers)
            except (SQLAlchemyError, OSError) as error:
                log.warning("live.database", error=type(error).__name__)
            await asyncio.sleep(PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMPARE_S):
                    await self._bell.wait()
            self._bell.clear()

    async def _compare(self, only: set[int] | None) -> None:
        """Find what is another than before: among these servers, or among all rows."""
        first = not self._seen and not self.rev
        said, gone = self._said, dict[str, tuple[Any, ...]]()
        if only is None:
            now, found = await self._look_at_all(quietly=first)
            gone = {key: was for key, was in self._seen.items() if key not in now}
            said = await self._db.read_in_one(notices.everything)
        else:
            now, found = await self._look(Server.id.in_(only))
            if len(now) < len(only):
                self._heard(ANY)  # one was deleted; which row it was, only the whole list says
        self._seen.update(now)
        for key in gone:
            del self._seen[key]
        announced, self._said = said != self._said, said
        if first or found or gone or announced:
            await self._tell(found, gone)

    async def _look_at_all(self, *, quietly: bool) -> _Look:
        """Some people at a time: whoever else reads, there and in this thread, gets a turn in between."""
        now, found, after = dict[str, tuple[Any, ...]](), list[tuple[str, Found, bool]](), 0
        while (last := await self._db.read_in_one(partial(listing.last_of_some, after=after))) is not None:
            some, others = await self._look(User.id > after, User.id <= last, quietly=quietly)
            now |= some
            found += others
            after = last
        return now, found

    async def _look(self, *which: sa.ColumnElement[bool], quietly: bool = False) -> _Look:
        """These rows as they are, and those of them that have changed, whole; `quietly` without the latter."""

        async def look(db: AsyncSession) -> _Look:
            rows = await db.execute(listing.joined(*_SEEN, *_USED).where(*which))
            now = {row_id(row[0], row[1], row[2]): tuple(row) for row in rows}
            changed = {key: seen for key, seen in now.items() if self._seen.get(key) != seen}
            return now, await self._read(db, changed) if changed and not quietly else []

        return await self._db.read_in_one(look)

    async def _read(
        self, db: AsyncSession, changed: dict[str, tuple[Any, ...]]
    ) -> list[tuple[str, Found, bool]]:
        servers = [seen[1] for seen in changed.values() if seen[1] is not None]
        users = [seen[0] for seen in changed.values() if seen[1] is None]
        rows = await listing.rows_of(db, servers=servers, users=users)
        named = [
            (row_id(one.user.id, one.server.id if one.server else None, one.server.name if one.server else ""), one)
            for one in rows
        ]  # fmt: skip
        told = len(_SEEN)
        return [
            (key, one, self._seen.get(key, ())[:told] == changed[key][:told])
            for key, one in named
            if key in changed
        ]

    async def _tell(self, found: list[tuple[str, Found, bool]], gone: dict[str, tuple[Any, ...]]) -> None:
        self.rev += 1
        self._ring.extend(Change(self.rev, key, one.user.id, one, only) for key, one, only in found)
        self._ring.extend(Change(self.rev, key, seen[0], None) for key, seen in gone.items())
        async with self._news:
            self._news.notify_all()

    async def _rest(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._doorbell.unlisten(self._heard)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # What happens while nobody looks is not in the ring: a page that comes back reads everything anew.
            self.epoch, self.rev = mint(6), 0
            self._ring.clear()
            self._seen.clear()
            self._made.clear()
            self._said = None


LIVE: web.AppKey[Live] = web.AppKey("live")


def install(app: web.Application) -> None:
    """Give the application its reader; it ends, with those who watch, before the server waits for open answers."""
    app[LIVE] = Live(app[MEMO], app[DOORBELL])

    async def end(app: web.Application) -> None:
        await app[LIVE].close()

    app.on_shutdown.append(end)


def sse(kind: str, data: str, event_id: str = "") -> str:
    """One server-sent event (html.spec.whatwg.org, "Server-sent events"): every line of the data on its own."""
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return (f"id: {event_id}\n" if event_id else "") + f"event: {kind}\n{lines}\n"
