"""Servers that the backend holds and no row knows: a restored database, a person deleted by hand. They are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from himalia_hub import clock
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.world import World
from himalia_spawner.base import ServerRef
from himalia_spawner.errors import SpawnError

log = structlog.get_logger()


async def run(world: World) -> None:
    """Look until cancelled. Needs no lease: every replica sees its own backend, and stopping twice is fine."""
    grace_s = world.settings.servers.orphan_grace_s
    found: dict[ServerRef, float] = {}
    while True:
        try:
            found = await reap(world, found, now_s=asyncio.get_running_loop().time())
        except (SpawnError, SQLAlchemyError, OSError) as error:
            log.warning("orphans.not_looked_for", error=str(error) or type(error).__name__)
        await asyncio.sleep(max(grace_s / 2, 0.1))


async def reap(world: World, found: Mapping[ServerRef, float], *, now_s: float) -> dict[ServerRef, float]:
    """One look. `found` says since when each orphan is known (monotonic seconds); the new `found`."""
    # The backend first: a row is written before its server starts, so what is listed here has its row by now.
    there = {handle.ref for handle in await world.spawner.list()}
    known, at_rest = await _rows(world)
    await _wake(world, [ref.name for ref in there if ref.name in at_rest])
    orphans = {ref: found.get(ref, now_s) for ref in there if ref.name not in known}
    for ref in overdue(orphans, now_s=now_s, grace_s=world.settings.servers.orphan_grace_s):
        log.warning("orphans.ended", server=ref.name, incarnation=ref.incarnation)
        await world.spawner.stop(ref)
        await world.spawner.purge(ref.name)
        del orphans[ref]
    return orphans


def overdue(orphans: Mapping[ServerRef, float], *, now_s: float, grace_s: float) -> list[ServerRef]:
    """Those that have been orphans for the whole time of grace."""
    return [ref for ref, since_s in orphans.items() if now_s - since_s >= grace_s]


async def _rows(world: World) -> tuple[Collection[str], Collection[str]]:
    """Backend names of all rows, and of those that are stopped and want nothing."""
    resting = sa.and_(
        Server.phase == Phase.STOPPED, Server.desired == Desired.STOPPED, Server.due_at.is_(None)
    )
    async with world.db.read() as db:
        rows = (await db.execute(sa.select(Server.backend_name, resting))).all()
    return {name for name, _ in rows}, {name for name, rests in rows if rests}


async def _wake(world: World, names: Iterable[str]) -> None:
    """A row that believes its server stopped, while it runs, takes a step: which ends it."""
    if wanted := list(names):
        log.info("orphans.row_woken", servers=wanted)
        async with world.db.begin() as db:
            await db.execute(
                sa.update(Server)
                .where(Server.backend_name.in_(wanted), Server.due_at.is_(None))
                .values(due_at=clock.now())
            )
        world.doorbell.ring_all()
