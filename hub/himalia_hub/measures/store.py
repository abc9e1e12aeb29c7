"""Queries on what servers use. None of them commits."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub.db.base import insert_for, insert_of
from himalia_hub.db.prepared import Prepared
from himalia_hub.measures.models import ServerUse, ServerUseMinute
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase

SHOWN = timedelta(hours=1)

OF_THIS_LIFE = sa.and_(
    ServerUse.server_id == Server.id,
    Server.desired == Desired.RUNNING,
    Server.phase == Phase.READY,
    ServerUse.at >= Server.started,
)
"""Joins a server with what it uses; one that does not run, or was not measured since it started, has nothing."""


class Point(NamedTuple):
    """What one server used at a moment."""

    server_id: int
    at: datetime
    memory: int | None
    cpus: float | None


async def running(
    db: AsyncSession, *, node: str | None, after_id: int = 0, of: Collection[int] | None = None, most: int
) -> list[tuple[int, str, str]]:
    """(id, name at the backend, incarnation) of servers that a hub on this node can measure, by id.

    At most so many, from just after `after_id`; of these ids only, if they are named.
    """
    wanted = sa.select(Server.id, Server.backend_name, Server.incarnation)
    wanted = wanted.where(_running(node), Server.id > after_id)
    wanted = wanted if of is None else wanted.where(Server.id.in_(of))
    return [(row[0], row[1], row[2]) for row in await db.execute(wanted.order_by(Server.id).limit(most))]


async def count(db: AsyncSession, *, node: str | None) -> int:
    """How many there are."""
    return await db.scalar(sa.select(sa.func.count()).where(_running(node))) or 0


def _running(node: str | None) -> sa.ColumnElement[bool]:
    here = sa.true() if node is None else Server.node == node
    return sa.and_(Server.phase == Phase.READY, Server.desired == Desired.RUNNING, here)


_USES = cast("sa.Table", ServerUse.__table__)
_COLUMNS = ("server_id", "at", "memory", "cpus")


def _replacing(dialect: str) -> sa.Executable:
    """One statement: two hubs of a machine, or a turn and a look at what is new, may write the same at one moment."""
    insert = insert_for(dialect)(_USES)
    values = {name: insert.excluded[name] for name in _COLUMNS[1:]}
    replaces = insert.on_conflict_do_update(
        index_elements=["server_id"], set_=values, where=_USES.c.at < insert.excluded.at
    )
    return cast("sa.Executable", replaces)


_NOW = Prepared(functools.cache(_replacing), given=_COLUMNS)
_MINUTE = Prepared(insert_of(ServerUseMinute), given=_COLUMNS)
"""Built once: all that run are written once a minute, each with a point of its own."""


def keep(db: Session, now_used: Sequence[Point], minutes: Sequence[Point]) -> None:
    """Replace what these servers use now, add points to the last hour, and forget what is older than it."""
    alive = _alive(db, {point.server_id for point in (*now_used, *minutes)})
    uses, points = (
        [point._asdict() for point in each if point.server_id in alive] for each in (now_used, minutes)
    )
    _NOW.run_each(db, uses)
    _MINUTE.run_each(db, points)
    if minutes:
        db.execute(sa.delete(ServerUseMinute).where(ServerUseMinute.at < minutes[0].at - SHOWN))


def _alive(db: Session, ids: Collection[int]) -> set[int]:
    """Those that were not deleted while they were measured; locked, where there are locks: another hub could delete one
    before its use is written, and that of all would be refused.
    """
    there = sa.select(Server.id).where(Server.id.in_(ids))
    return set(db.scalars(there.with_for_update(read=True, key_share=True, skip_locked=True)))


async def of_servers(db: AsyncSession, ids: Collection[int]) -> dict[int, ServerUse]:
    """What these servers use, by their ids; who does not run, or cannot be measured, is left out."""
    wanted = sa.select(ServerUse).join(Server, OF_THIS_LIFE).where(Server.id.in_(ids))
    return {use.server_id: use for use in await db.scalars(wanted)}


async def last_hour(db: AsyncSession, ids: Collection[int], *, now: datetime) -> dict[int, list[Point]]:
    """The points of this life of these servers, oldest first; every id has a list."""
    found: dict[int, list[Point]] = {server_id: [] for server_id in ids}
    rows = await db.scalars(
        sa.select(ServerUseMinute)
        .join(Server, Server.id == ServerUseMinute.server_id)
        .where(Server.id.in_(ids), ServerUseMinute.at >= Server.started, ServerUseMinute.at >= now - SHOWN)
        .order_by(ServerUseMinute.at)
    )
    for row in rows:
        found[row.server_id].append(Point(row.server_id, row.at, row.memory, row.cpus))
    return found
