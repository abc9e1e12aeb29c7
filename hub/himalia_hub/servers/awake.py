"""What follows when the machine slept, or its clock was set: nobody could be at work meanwhile, and nothing is late."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.servers import leases
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.servers.world import World

log = structlog.get_logger()

EVERY_S = 1.0
NOTICED = timedelta(seconds=30)
"""No hub is this late for any other reason, and nobody misses less."""
LONGEST_PAUSE = timedelta(minutes=5)
"""Of what a row may wait for (`reconcile.back_off_s`)."""


async def run(world: World) -> None:
    """Look every second until cancelled."""
    while True:
        try:
            await look(world)
        except (SQLAlchemyError, OSError) as error:
            log.warning("awake.not_written", error=type(error).__name__)
        await asyncio.sleep(EVERY_S)


async def look(world: World) -> None:
    """See whether time has jumped since the last look; if so write down what follows. Before anything is judged by age.

    Forward, by an hour or while the machine slept: what runs was last used that much later, and what begins or ends did
    so. Back: what waits for a moment waits for no longer than it would have.
    """
    async with world.looks.one_at_a_time:
        now, last = clock.now(), world.looks.clock
        by = now - last if last is not None else timedelta()
        if abs(by) >= NOTICED:
            await world.db.write(lambda db: _forgive(db, by, now))
            log.warning("clock.jumped", by_s=round(by.total_seconds()))
            world.doorbell.ring_all()
        world.looks.clock = now


def _forgive(db: Session, by: timedelta, now: datetime) -> None:
    going = db.scalars(
        sa.select(Server).where(Server.phase.in_([Phase.STARTING, Phase.READY, Phase.STOPPING]))
    )
    for server in going if by > timedelta() else ():
        if server.phase is not Phase.READY:
            server.phase_since = min(server.phase_since + by, now)
            continue
        # Of several hubs on this machine each says so: no moment gets beyond the present one.
        used = max((one for one in (server.started, server.last_activity) if one is not None), default=now)
        server.last_activity = min(used + by, now)
        if server.kept_alive_until is not None and server.kept_alive_until > now - by:
            server.kept_alive_until += by
    if by < timedelta():
        db.execute(sa.update(Server).where(Server.due_at > now + LONGEST_PAUSE).values(due_at=now))
        held = Server.lease_until > now + LONGEST_PAUSE
        db.execute(sa.update(Server).where(held).values(leases.RELEASED))
