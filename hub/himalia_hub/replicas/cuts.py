"""What one hub has cut, the proxies that follow another hub cut as well.

Told by PostgreSQL's NOTIFY, which who does not listen misses: whoever begins to listen asks for it again, and each hub
remembers for a while what it told. SQLite has one hub, which nobody tells.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from himalia_hub.db.engine import Database

CHANNEL: Final = "himalia_cuts"
"""PostgreSQL notification channel; the payload is a JSON object."""
AGAIN_S: Final = 300.0
"""For so long a cut is told again to who asks."""
MOST: Final = 1000

TOGETHER: Final = 60
"""Tokens in one message, which has 8,000 bytes at most."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Whose WebSockets: those of a browser sign-in, of a route, of tokens (their hashes); of all that is said."""

    login: str | None = None
    route: str | None = None
    tokens: Collection[str] = ()


class Do(Protocol):
    """Cuts at the proxies that follow, or (`whole`) at the first one too."""

    async def __call__(self, what: Cut, *, whole: bool) -> None:
        """As said."""


log = structlog.get_logger()


class Cuts:
    """One hub's voice and ear. Without `do` it only speaks, as a command does."""

    def __init__(self, db: Database, do: Do | None = None) -> None:
        self._db, self._do = db, do
        self._told: deque[tuple[float, str]] = deque(maxlen=MOST)
        self._known: deque[str] = deque(maxlen=MOST)
        self._doing: set[asyncio.Task[None]] = set()

    async def tell(self, *cuts: Cut, whole: bool = False) -> bool:
        """Have the other hubs cut this; False when the database cannot be asked, which is made up for once it can."""
        if self._db.is_sqlite:
            return True
        payloads = []
        for one in cuts:
            hashes = sorted(one.tokens)
            for at in range(0, len(hashes) or 1, TOGETHER):
                name = secrets.token_urlsafe(8)
                told = {"id": name, "login": one.login, "route": one.route, "whole": whole}
                payloads.append(
                    json.dumps({**told, "tokens": hashes[at : at + TOGETHER]}, ensure_ascii=False)
                )
                self._known.append(name)
        self._told += [(time.monotonic(), payload) for payload in payloads]
        return await self._say(payloads)

    async def begin(self) -> None:
        """This hub listens now: ask for what was told meanwhile, and tell again what may not have been heard."""
        since, name = time.monotonic() - AGAIN_S, secrets.token_urlsafe(8)
        self._known.append(name)
        await self._say([json.dumps({"id": name, "again": True}), *self._since(since)])

    def hear(self, payload: str) -> None:
        """Do what another hub tells. Anybody with an account on the database may write to the channel."""
        try:
            told = json.loads(payload)
            name, again = str(told["id"]), told.get("again") is True
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("tunnels.not_understood")
            return
        if name in self._known:
            return
        self._known.append(name)
        work = self._say(self._since(time.monotonic() - AGAIN_S)) if again else self._cut(told)
        task = asyncio.create_task(_awaited(work), name="hub.cuts")
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    def _since(self, moment: float) -> list[str]:
        return [payload for at, payload in self._told if at >= moment]

    async def _cut(self, told: dict[str, Any]) -> None:
        login, route, tokens = told.get("login"), told.get("route"), told.get("tokens")
        what = Cut(
            login if isinstance(login, str) else None,
            route if isinstance(route, str) else None,
            [one for one in tokens if isinstance(one, str)] if isinstance(tokens, list) else (),
        )
        if self._do is not None and (what.login or what.route or what.tokens):
            await self._do(what, whole=told.get("whole") is True)

    async def _say(self, payloads: Sequence[str]) -> bool:
        if not payloads:
            return True
        try:
            async with self._db.begin() as db:
                for payload in payloads:
                    await db.execute(sa.select(sa.func.pg_notify(CHANNEL, payload)))
        except (SQLAlchemyError, OSError) as error:
            log.warning("tunnels.others_not_told", error=type(error).__name__)
            return False
        return True


async def _awaited(work: Awaitable[object]) -> None:
    await work
