"""The net below `Spawner.watch()`: rows that rest while their server runs are compared with what the spawner sees.

Who is as its row says costs one look and no write: thousands that run as they should take neither leases nor the
database's writer from those who start. Everything else is woken, and the one reconciler acts. Routes are compared by
`routes/sync.py`, and whether a server that was ready still answers decides nothing (`state.next_step`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.servers import schedule
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.world import World
from himalia_spawner.base import Presence, Sighting
from himalia_spawner.errors import SpawnError

log = structlog.get_logger()

ROUND_S = 300.0
"""In so long every row is looked at once."""
TURNS = 150
"""So many turns it takes: behind all of 10,000 servers at once, somebody's start would wait."""
PLACES = 8
"""So many are looked at side by side: one that takes long holds up few."""

_Row = sa.Row[*tuple[Any, ...]]


async def run(world: World) -> None:
    """Look until cancelled, a turn after the other."""
    after_id = most = 0
    while True:
        through = False
        for number in range(TURNS):
            await asyncio.sleep(ROUND_S / TURNS)
            if through:
                continue
            try:
                most = await turn_size(world) if number == 0 or not most else most
                after_id = await look_on(world, after_id, most)
                through = after_id == 0
            except (SQLAlchemyError, OSError) as error:
                log.warning("resync.not_looked", error=type(error).__name__)


async def turn_size(world: World) -> int:
    """How many rows make a turn; one more than is needed, as some come to rest while a round lasts."""

    async def look(db: AsyncSession) -> int:
        return await db.scalar(sa.select(sa.func.count()).where(_resting(world.spawner.node))) or 0

    return math.ceil(await world.db.read_in_one(look) / TURNS) + 1


async def look_on(world: World, after_id: int, most: int) -> int:
    """Look at so many rows from just after this id, and wake those that differ; the last one's id, 0 at the end."""
    rows = await world.db.read_in_one(lambda db: _rows(db, world.spawner.node, after_id, most))
    places = asyncio.Semaphore(PLACES)

    async def differs(row: _Row) -> bool:
        async with places:
            try:
                return not as_recorded(row, await world.spawner.look(row.backend_name))
            except SpawnError:
                return True  # the reconciler says that it cannot be asked

    different = await asyncio.gather(*map(differs, rows))
    names = [row.backend_name for row, other in zip(rows, different, strict=True) if other]
    if names:
        async with world.db.begin() as db:
            ids = await schedule.wake(db, names, now=clock.now())
        for server_id in ids:
            world.doorbell.ring(server_id)
    return rows[-1].id if len(rows) == most else 0


def as_recorded(row: _Row, sighting: Sighting) -> bool:
    """Whether nothing follows from this look at a server that rests. Pure."""
    handle = sighting.handle
    runs = row.desired is Desired.RUNNING and row.phase is Phase.READY and row.unknown_since is None
    if not runs or sighting.presence is not Presence.PRESENT or handle is None:
        return False
    return handle.ref.incarnation == f"{row.id}.{row.generation}" and handle.url == row.url


def _resting(node: str | None) -> sa.ColumnElement[bool]:
    active = sa.or_(
        Server.desired == Desired.RUNNING, Server.phase.in_([Phase.STARTING, Phase.STOPPING, Phase.READY])
    )
    mine = sa.or_(Server.node.is_(None), Server.node == node)
    return sa.and_(active, mine, Server.due_at.is_(None), Server.queued_at.is_(None))


async def _rows(db: AsyncSession, node: str | None, after_id: int, most: int) -> Sequence[_Row]:
    columns = (
        Server.id, Server.backend_name, Server.generation, Server.desired, Server.phase, Server.url,
        Server.unknown_since,
    )  # fmt: skip
    wanted = sa.select(*columns).where(_resting(node), Server.id > after_id).order_by(Server.id).limit(most)
    return (await db.execute(wanted)).all()
