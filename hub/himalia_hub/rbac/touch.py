"""When people, tokens and sign-ins were last seen: gathered in memory, written in one go every few seconds.

A write in each request would make reading wait for SQLite's one writer; a few seconds of activity lost with a
killed hub harm nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.db.engine import Database
from himalia_hub.keys import DB
from himalia_hub.rbac.identity import Identity
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import Login, User

RESOLUTION = timedelta(seconds=30)
FLUSH_S = 10.0
SLICE = 500
"""So many rows are written in one transaction, while others wait for it."""

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
        self.person(identity.user_id, now)

    def person(self, user_id: int, now: datetime) -> None:
        """Something was done by a person, or for them."""
        self._seen.setdefault(("user", user_id), now)

    async def flush(self, database: Database) -> None:
        """Write what was gathered; never moves a moment back."""
        seen, self._seen = self._seen, {}
        addresses, self._addresses = self._addresses, {}
        if not seen:
            return
        for kind in ("login", "token", "user"):
            rows = sorted((row_id, at) for (of, row_id), at in seen.items() if of == kind)
            facts: list[dict[str, Any]] = [{"of": row_id, "at": at} for row_id, at in rows]
            if kind == "token":
                facts = [fact | {"address": addresses.get(fact["of"], "")} for fact in facts]
            for start in range(0, len(facts), SLICE):
                await database.begin_in_one(partial(_move, kind, facts[start : start + SLICE]))


async def _move(kind: str, facts: list[dict[str, Any]], db: AsyncSession) -> None:
    await db.execute(_moving(kind), facts)


@functools.cache
def _moving(kind: str) -> sa.Update:
    """Moves the moment of the row `of` on to `at`, never back; on tables, so that one call takes many rows."""
    model = {"token": ApiToken, "login": Login, "user": User}[kind]
    table, name = cast("sa.Table", model.__table__), "last_seen" if kind == "login" else "last_activity"
    column, at = table.c[name], sa.bindparam("at", type_=table.c[name].type)
    values: dict[str, Any] = {name: at} | (
        {"last_address": sa.bindparam("address")} if kind == "token" else {}
    )
    return (
        sa.update(table)
        .where(table.c.id == sa.bindparam("of"), sa.or_(column.is_(None), column < at))
        .values(values)
    )


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
