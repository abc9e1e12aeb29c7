"""When which server is due for the loop, and making them due; its leases are in `leases.py`. None of this commits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.db.prepared import Prepared
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase


async def next_due(db: AsyncSession, *, node: str | None) -> tuple[datetime | None, bool]:
    """When the next row wants a step (leased rows count from the end of their lease), and whether any start waits."""
    row = await db.run_sync(_next_due().row, {"node": node})
    return row[0], bool(row[1])


NEXT = 1000
"""Of so many rows that are due first the next is looked for: the others have a lease, which as many never have."""


@functools.cache
def _next_due() -> Prepared:
    mine = sa.or_(Server.node.is_(None), Server.node == sa.bindparam("node", type_=Server.node.type))
    # In order, up to a bound: then both databases walk the index. Else SQLite reads all rows at each ring, and so does
    # PostgreSQL until its statistics say that few are due, a minute after a hub's start.
    first = sa.select(Server.lease_until, Server.due_at).where(Server.due_at.is_not(None), mine)
    first = first.order_by(Server.due_at).limit(NEXT)
    row = first.subquery()
    earliest = sa.case((row.c.lease_until > row.c.due_at, row.c.lease_until), else_=row.c.due_at)
    due = sa.select(sa.func.min(earliest)).scalar_subquery()
    waits = sa.exists(sa.select(Server.id).where(Server.queued_at.is_not(None)))
    return Prepared(sa.select(sa.type_coerce(due, Server.due_at.type), waits))


async def take_back(db: AsyncSession, owner_prefix: str) -> int:
    """Free the leases of this host's dead hubs at once, without waiting for their end; how many."""
    done = await db.execute(
        sa.update(Server)
        .where(Server.lease_owner.startswith(owner_prefix, autoescape=True))
        .values(lease_owner=None, lease_until=None)
    )
    return int(done.rowcount)  # type: ignore[attr-defined]


async def wake(db: AsyncSession, backend_names: Sequence[str], *, now: datetime) -> list[int]:
    """Make these servers due now (their process ended, their route is wrong); their ids."""
    done = await db.scalars(
        sa.update(Server)
        .where(Server.backend_name.in_(backend_names), Server.queued_at.is_(None))
        .values(due_at=sa.case((Server.due_at < now, Server.due_at), else_=now))
        .returning(Server.id)
    )
    return list(done)


async def wake_in_turn(db: AsyncSession, *, node: str | None, now: datetime, per_s: int) -> datetime:
    """Make all that do not rest due, so many in each second: nobody's start waits behind thousands of looks. The moment
    of the last.
    """
    ready = await db.scalar(sa.select(sa.func.count()).where(Server.phase == Phase.READY)) or 0
    parts = 1 + ready // per_s
    for part in range(parts):
        await wake_active(db, node=node, now=now + timedelta(seconds=part), part=part, parts=parts)
    return now + timedelta(seconds=parts - 1)


async def any_due(db: AsyncSession, *, node: str | None, by: datetime) -> bool:
    """Whether a row wants a step that was due by then."""
    mine = sa.or_(Server.node.is_(None), Server.node == node)
    return bool(await db.scalar(sa.select(sa.exists().where(Server.due_at <= by, mine))))


async def wake_active(
    db: AsyncSession, *, node: str | None, now: datetime, part: int = 0, parts: int = 1
) -> list[int]:
    """Make the servers that do not rest, or one of `parts` of them, due at `now`: after a hub's start."""
    mine = sa.or_(Server.node.is_(None), Server.node == node)
    active = sa.or_(
        Server.desired == Desired.RUNNING, Server.phase.in_([Phase.STARTING, Phase.STOPPING, Phase.READY])
    )
    done = await db.scalars(
        sa.update(Server)
        .where(active, mine, Server.due_at.is_(None), Server.queued_at.is_(None), Server.id % parts == part)
        .values(due_at=now)
        .returning(Server.id)
    )
    return list(done)
