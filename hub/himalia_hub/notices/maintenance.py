"""Maintenance: while it lasts no start is accepted, by any of the hubs; what runs, or was accepted before, goes on.

Whoever accepts a start looks at the row in the transaction of the wish. On PostgreSQL they share a lock that beginning
a maintenance takes for itself: once that has answered, no start is committed any more. SQLite has one writer anyway.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.clock import minute
from himalia_hub.db.prepared import hold, is_postgresql
from himalia_hub.errors import HimaliaError
from himalia_hub.notices.models import Maintenance
from himalia_hub.notices.notice import MAINTENANCE, Notice

LOCK = "himalia maintenance"
AGAIN_S = 60.0


class UnderMaintenance(HimaliaError):
    """503: nothing is started just now. The message is what was announced, and until when."""

    status = 503
    code = "maintenance"

    def __init__(self, said: Notice, now: datetime) -> None:
        super().__init__(
            f"Maintenance (until {minute(said.ends)}): {said.text}"
            if said.ends
            else f"Maintenance: {said.text}",
            remedy="Servers that run go on; start yours when it is over.",
        )
        self.retry_after_s = (said.ends - now).total_seconds() if said.ends else AGAIN_S


async def get(db: AsyncSession, *, now: datetime) -> Notice | None:
    """The maintenance of this moment, or None."""
    row = await db.get(Maintenance, 1)
    said = None if row is None else notice_of(row)
    return None if said is None or said.over(now) else said


async def hold_off(db: AsyncSession) -> None:
    """Until this transaction ends, none begins."""
    await _lock(db, "pg_advisory_xact_lock_shared")


async def must_be_over(db: AsyncSession, *, now: datetime) -> None:
    """UnderMaintenance during one. Asked by whoever accepts a start, in the same transaction."""
    await hold_off(db)
    said = await get(db, now=now)
    if said is not None:
        raise UnderMaintenance(said, now)


async def begin(db: AsyncSession, said: Notice) -> None:
    """From now on, until `said.ends` or until it is ended; one that lasts already says this instead."""
    await _lock(db, "pg_advisory_xact_lock")
    row = await db.get(Maintenance, 1) or Maintenance(id=1)
    row.text, row.since, row.ends, row.author = said.text, said.starts, said.ends, said.author
    db.add(row)


async def end(db: AsyncSession) -> None:
    """Starts are accepted again. Ending what is over already does nothing."""
    await db.execute(sa.delete(Maintenance))


def notice_of(row: Maintenance) -> Notice:
    """A row as everything but this file sees it."""
    return Notice(MAINTENANCE, "warning", row.text, row.since, row.ends, row.author)


async def _lock(db: AsyncSession, function: str) -> None:
    if is_postgresql(db):
        await db.run_sync(hold, function, LOCK)
