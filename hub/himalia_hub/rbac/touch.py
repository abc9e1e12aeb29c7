"""When people, tokens and sign-ins were last seen: gathered in memory, written in one go every few seconds.

A write in each request would make reading wait for SQLite's one writer; a few seconds of activity lost with a
killed hub harm nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from aiohttp import web

from himalia_hub.db.engine import Database
from himalia_hub.keys import DB
from himalia_hub.rbac.identity import Identity
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import Login, User

RESOLUTION = timedelta(seconds=30)
FLUSH_S = 10.0

log = structlog.get_logger()


class Touches:
    """What was seen and not written yet."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], datetime] = {}
        self._addresses: dict[int, str] = {}

    def note(self, identity: Identity, now: datetime, address: str) -> None:
        """A credential was used, from there. A server's own token says nothing of its person."""
        token, login = identity.token, identity.login
        if token is not None and _old(token.last_activity, now):
            self._seen["token", token.id] = now
            self._addresses[token.id] = address[:64]
        if login is not None and _old(login.last_seen, now):
            self._seen["login", login.id] = now
        if identity.user_id is None or (token is not None and token.server_id is not None):
            return
        self._seen.setdefault(("user", identity.user_id), now)

    async def flush(self, database: Database) -> None:
        """Write what was gathered; never moves a moment back."""
        seen, self._seen = self._seen, {}
        addresses, self._addresses = self._addresses, {}
        if not seen:
            return
        columns = {"token": ApiToken.last_activity, "login": Login.last_seen, "user": User.last_activity}
        ids = {"token": ApiToken.id, "login": Login.id, "user": User.id}
        async with database.begin() as db:
            for (kind, row_id), at in sorted(seen.items()):
                column = columns[kind]
                older = sa.or_(column.is_(None), column < at)
                values: dict[str, object] = {column.key: at}
                if kind == "token":
                    values["last_address"] = addresses.get(row_id, "")
                await db.execute(sa.update(column.class_).where(ids[kind] == row_id, older).values(values))


def _old(moment: datetime | None, now: datetime) -> bool:
    return moment is None or now - moment > RESOLUTION


TOUCHES: web.AppKey[Touches] = web.AppKey("touches")


async def touching(app: web.Application) -> AsyncIterator[None]:
    """A cleanup context: write every few seconds while the application runs, and once at its end."""

    async def _loop() -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await _flush(app)

    task = asyncio.create_task(_loop(), name="hub.touches")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await _flush(app)


async def _flush(app: web.Application) -> None:
    try:
        await app[TOUCHES].flush(app[DB])
    except (sa.exc.SQLAlchemyError, OSError) as error:
        log.warning("activity.not_written", error=type(error).__name__)
