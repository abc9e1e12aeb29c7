"""Wake-ups from other replicas: PostgreSQL's LISTEN on a connection of its own. SQLite has one replica, no listener."""

from __future__ import annotations

import asyncio

import structlog

from himalia_hub.db.engine import Database
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.store import CHANNEL

log = structlog.get_logger()


async def run(db: Database, doorbell: Doorbell) -> None:
    """Ring the bell for every notification, until cancelled; after each reconnect once for all that was missed."""
    if db.is_sqlite:
        return
    import psycopg

    url = db.url.set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                doorbell.ring(0)
                async for note in connection.notifies():
                    doorbell.ring(int(note.payload))
        except psycopg.Error as error:
            log.warning("database.listener_lost", error=type(error).__name__)
            await asyncio.sleep(1)
