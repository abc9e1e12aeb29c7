"""SQLite's log is copied into the database beside the writers, rather than by whoever's commit makes it long.

A checkpoint waits for the disk, with `synchronous=NORMAL` as the only one who does (decision 8): 60 ms on a busy one,
in which nobody else could write. The more is written, the more of them there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Hashable
from typing import NoReturn
from urllib.parse import quote

from himalia_hub.db.engine import Database

EVERY_S = 2.0


async def run(db: Database) -> None:
    """Every few seconds in which something was committed, until cancelled; on PostgreSQL nothing."""
    if db.is_sqlite:
        await _run(db)


async def _run(db: Database) -> NoReturn:
    copied: Hashable | None = None
    while True:
        await asyncio.sleep(EVERY_S)
        revision = await db.revision.now()
        if revision is not None and revision != copied:
            await asyncio.to_thread(copy_log, db.url.database or "")
            copied = revision


def copy_log(path: str) -> None:
    """What was committed so far is in the file at this path itself, unless somebody still reads what was before.

    Holds up nobody (`PASSIVE`, sqlite.org/wal.html). What fails here, a writer does once the log has grown long.
    """
    with contextlib.suppress(sqlite3.Error):
        # `rw`: a file that is gone is not made anew.
        connection = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=0, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
