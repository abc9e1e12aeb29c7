"""Wake-ups from other replicas: PostgreSQL's LISTEN on a connection of its own. SQLite has one replica, no listener."""

from __future__ import annotations

import asyncio

import structlog

from himalia_hub.db.engine import Database
from himalia_hub.replicas.cuts import CHANNEL as CUTS
from himalia_hub.replicas.store import CHANNEL as HUBS
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.leases import CHANNEL, STEP

log = structlog.get_logger()

KEEPALIVE_S = 20
"""A connection that only listens would not notice for hours that a firewall forgot it, or that its host is gone."""

RECONNECT_S = 1.0


async def run(
    db: Database,
    doorbell: Doorbell,
    hubs: asyncio.Event | None = None,
    cuts: asyncio.Event | None = None,
) -> None:
    """Ring the bell for every notification, until cancelled; after each reconnect once for all that was missed.

    `hubs` is set when another hub calls, `cuts` when it has something to be cut.
    """
    hubs, cuts = hubs or asyncio.Event(), cuts or asyncio.Event()
    if db.is_sqlite:
        return
    import psycopg

    url = db.url.set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                url, autocommit=True, keepalives_idle=KEEPALIVE_S, keepalives_interval=5, keepalives_count=3
            ) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                await connection.execute(f"LISTEN {HUBS}")
                await connection.execute(f"LISTEN {CUTS}")
                doorbell.ring_all()
                hubs.set()
                cuts.set()
                async for note in connection.notifies():
                    if note.channel == HUBS:
                        hubs.set()
                    elif note.channel == CUTS:
                        cuts.set()
                    else:
                        _ring(doorbell, note.payload, but_from=db.name)
        except (psycopg.Error, OSError) as error:
            log.warning("database.listener_lost", error=type(error).__name__)
            await asyncio.sleep(RECONNECT_S)


def _ring(doorbell: Doorbell, payload: str, *, but_from: str) -> None:
    # Anybody with an account on the database may write to the channel: what is no number is worth a look, not a crash.
    server_id, speaker, about = [*payload.split(" ", 2), "", ""][:3]
    if speaker == but_from:
        return  # it rang its own bell, and whoever is in the midst of this start would read it all again
    if not (server_id.isascii() and server_id.isdigit()):
        doorbell.ring_all()
    elif about == STEP:
        # Whoever has the lease goes on with it; should they die, it was known since the wish when that lease ends.
        doorbell.settle(int(server_id))
    else:
        doorbell.ring(int(server_id))
