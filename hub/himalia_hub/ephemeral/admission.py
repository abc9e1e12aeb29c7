"""Who clicks on a link: a launch at the end of the queue and its place there, for all who come together at once.

200 who click within a second are a few transactions, and the work on launches stands back until they are answered: a
place needs no start, and a start that came first would keep 190 waiting for theirs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.db.engine import Database
from himalia_hub.db.prepared import hold, is_postgresql
from himalia_hub.ephemeral import bans, store
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.ephemeral.sources import Source
from himalia_hub.errors import HimaliaError, TooMany
from himalia_hub.languages import counted
from himalia_hub.notices import maintenance
from himalia_hub.secrets import mint
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.users.models import User

TOGETHER = 64
"""So many are let in by one transaction at most: the first of them waits for the last."""
HOUR = timedelta(hours=1)
LOCK = "himalia admission"


@dataclass(frozen=True, slots=True)
class Click:
    """One wish to open a link, by whoever is signed in as `user_id`, or has this address."""

    source: Source
    opening: str
    address: str
    user_id: int | None = None
    site: str = ""

    @property
    def visitor(self) -> str:
        """As in the launch's row."""
        return f"{store.NET}{self.address}" if self.user_id is None else f"user:{self.user_id}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What becomes a launch, if the limits allow it."""

    source: Source
    opening: str
    visitor: str
    site: str = ""


Admitted = tuple[Launch, store.Place]


class Admission:
    """The door of one replica: clicks go in, launches and places come out."""

    def __init__(self, db: Database, bell: Doorbell, section: Callable[[], EphemeralSection]) -> None:
        self._db, self._bell, self._section = db, bell, section
        self._waiting: list[tuple[Click, asyncio.Future[Admitted]]] = []
        self._serving: asyncio.Task[None] | None = None
        self._unanswered = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Somebody clicked, and has not been told yet where they stand."""
        self._unanswered += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._unanswered -= 1
            if not self._unanswered:
                self._quiet.set()

    async def quiet(self, *, at_most_s: float) -> None:
        """Until nobody waits for their answer, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._quiet.wait()

    async def open(self, click: Click) -> Admitted:
        """Its launch, and where that stands. HimaliaError says why it is not opened."""
        answer: asyncio.Future[Admitted] = asyncio.get_running_loop().create_future()
        self._waiting.append((click, answer))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(), name="launches.admission")
        return await answer

    async def _serve(self) -> None:
        try:
            while self._waiting:
                served, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
                await self._admit([one for one in served if not one[1].done()])
        finally:
            self._serving = None

    async def _admit(self, served: Sequence[tuple[Click, asyncio.Future[Admitted]]]) -> None:
        clicks = [click for click, _ in served]
        found: Sequence[Admitted | BaseException]
        try:
            found = await self._db.begin_in_one(
                lambda db: admit(db, clicks, section=self._section(), now=clock.now())
            )
        except asyncio.CancelledError:  # the event loop ends
            for _, answer in served:
                answer.cancel()
            raise
        except Exception as error:  # nothing of any of them was written, and each is told why
            found = [error] * len(served)
        for (_, answer), one in zip(served, found, strict=True):
            if answer.done():
                continue
            if isinstance(one, BaseException):
                answer.set_exception(one)
            else:
                answer.set_result(one)
                self._bell.ring(one[0].id)


async def admit(
    db: AsyncSession, clicks: Sequence[Click], *, section: EphemeralSection, now: datetime
) -> list[Admitted | HimaliaError]:
    """What becomes of each, in their order. UnderMaintenance for all of them during one."""
    await maintenance.must_be_over(db, now=now)
    guests = await _guests(db, {click.user_id for click in clicks if click.user_id is not None})
    refused = await bans.refusals(db, {click.source.url for click in clicks})
    wishes = [
        Wish(
            one.source,
            one.opening,
            one.visitor if one.user_id not in guests else store.NET + one.address,
            one.site,
        )
        for one in clicks
        if one.source.url not in refused
    ]
    added = iter(await add_all(db, wishes, section=section, now=now))
    return [refused[one.source.url] if one.source.url in refused else next(added) for one in clicks]


async def _guests(db: AsyncSession, user_ids: Collection[int]) -> frozenset[int | None]:
    """Who of them is the guest of another session: they open links as their address does."""
    if not user_ids:
        return frozenset()
    return frozenset(await db.scalars(sa.select(User.id).where(User.id.in_(user_ids), User.guest)))


async def add(
    db: AsyncSession, source: Source, *, opening: str, visitor: str, section: EphemeralSection, now: datetime
) -> Launch:
    """`add_all` of one. TooMany."""
    [added] = await add_all(db, [Wish(source, opening, visitor)], section=section, now=now)
    if isinstance(added, TooMany):
        raise added
    return added[0]


async def add_all(
    db: AsyncSession, wishes: Sequence[Wish], *, section: EphemeralSection, now: datetime
) -> list[Admitted | TooMany]:
    """Launches at the end of the queue, in this order; TooMany where it, or somebody's hour, is full."""
    await _one_at_a_time(db)
    hours = _Hours(wishes, section)
    await hours.read(db, now=now)
    queue = sa.select(sa.func.count(sa.case((store.QUEUE, 1))), sa.func.count(sa.case((Launch.seated, 1))))
    waiting, running = (await db.execute(queue.where(Launch.stage.in_(store.UNDER_WAY)))).one()
    added: list[Admitted | TooMany] = []
    for wish in wishes:
        full = hours.refusal(wish, now)
        if full is None and waiting >= section.queue_limit + section.total_limit:
            full = TooMany("Too many sessions are waiting for a place here.", retry_after_s=60)
        if full is not None:
            added.append(full)
            continue
        hours.count(wish)
        waiting += 1
        added.append((_launch(wish, now), store.Place(waiting, running)))
    db.add_all([one[0] for one in added if not isinstance(one, TooMany)])
    await db.flush()
    return added


def _launch(wish: Wish, now: datetime) -> Launch:
    source = wish.source
    return Launch(
        key=mint(15), provider=source.provider, spec=source.spec, stem=source.stem, url=source.url, label=source.label,
        ref=source.ref, opening=wish.opening, visitor=wish.visitor, created=now, stage=Stage.RESOLVING, stage_since=now,
        site=wish.site[:300],
    )  # fmt: skip


async def _one_at_a_time(db: AsyncSession) -> None:
    """Of several hubs, too: places follow the ids, and no two are told the same. SQLite has one writer anyway."""
    if is_postgresql(db):
        await db.run_sync(hold, "pg_advisory_xact_lock", LOCK)


# ------------------------------------------------------------------ limits of an hour


@dataclass(frozen=True, slots=True)
class _Limit:
    """How often something may be opened within an hour, by one visitor or of one repository."""

    whose: tuple[str, str]
    """A column of launches, and what stands there."""
    most: int
    words: str


class _Hours:
    """What was opened in the last hour, as far as these wishes need to know. Rows count: a restart forgets none."""

    def __init__(self, wishes: Sequence[Wish], section: EphemeralSection) -> None:
        self._limits = {wish: _limits(wish, section) for wish in dict.fromkeys(wishes)}
        self._asked = Counter(limit.whose for wish in wishes for limit in self._limits[wish])
        self._opened: Counter[tuple[str, str]] = Counter()
        self._created: dict[_Limit, list[datetime]] = {}

    async def read(self, db: AsyncSession, *, now: datetime) -> None:
        """Of each limit the launches that decide: of the `most` newest the oldest, one for each that may be added."""
        for limit in {limit for limits in self._limits.values() for limit in limits}:
            column, value = limit.whose
            theirs = sa.select(Launch.created).where(
                getattr(Launch, column) == value, Launch.visitor != store.POOL, Launch.created > now - HOUR
            )
            number = min(self._asked[limit.whose], limit.most)
            rows = theirs.order_by(Launch.id.desc()).offset(self._skipped(limit)).limit(number)
            self._created[limit] = list(await db.scalars(rows))

    def refusal(self, wish: Wish, now: datetime) -> TooMany | None:
        """Why it may not be opened now; None where it may."""
        for limit in self._limits[wish]:
            left_s = self._left_s(limit, now)
            if left_s > 0:
                return TooMany(limit.words, retry_after_s=left_s)
        return None

    def count(self, wish: Wish) -> None:
        """It is opened."""
        for limit in self._limits[wish]:
            self._opened[limit.whose] += 1

    def _skipped(self, limit: _Limit) -> int:
        return max(limit.most - self._asked[limit.whose], 0)

    def _left_s(self, limit: _Limit, now: datetime) -> float:
        oldest = limit.most - 1 - self._opened[limit.whose]  # the newest is 0
        if oldest < 0:
            return HOUR.total_seconds()
        created, at = self._created[limit], oldest - self._skipped(limit)
        return (created[at] + HOUR - now).total_seconds() if at < len(created) else 0.0


def _limits(wish: Wish, section: EphemeralSection) -> list[_Limit]:
    most, source = section.visitor_hourly_limit, wish.source
    words = counted(
        "From here %(num)s link was opened within an hour.",
        "From here %(num)s links were opened within an hour.",
        most,
    )
    visitors = _Limit(("visitor", wish.visitor), most, words)
    most = section.rule(source.provider, source.spec).hourly_limit or 0
    words = counted(
        "%(label)s was opened %(num)s time within an hour.",
        "%(label)s was opened %(num)s times within an hour.",
        most,
        label=source.label,
    )
    return [limit for limit in (visitors, _Limit(("url", source.url), most, words)) if limit.most]
