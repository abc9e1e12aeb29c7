"""Whether anything at all was committed since a moment ago, by whomever: asked of the database, in microseconds.

What was read at one revision is what would be read again at the same one. So whatever is worked out from rows alone may
be kept until the revision moves, and nobody who writes has to remember what follows from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Hashable
from typing import Any, Protocol

from sqlalchemy.engine import URL

from himalia_hub.secrets import mint


class Revision(Protocol):
    """Names the state of a database."""

    async def now(self) -> Hashable | None:
        """Equal to an earlier one when nothing was committed in between; None when it cannot be told."""

    async def close(self) -> None:
        """Let go of the connection."""


class SqliteRevision:
    """`PRAGMA data_version` (sqlite.org/pragma.html) moves with each commit of another connection; ours never writes.

    Asked in the event loop: a value in shared memory, with no lock to wait for. Each connection counts from 2 on: its
    number says nothing beside that of another, of a hub that was started again or after the first was broken.
    """

    def __init__(self, url: URL) -> None:
        self._file = url.database or ""
        self._connection: sqlite3.Connection | None = None
        self._counted_by = ""

    async def now(self) -> Hashable | None:
        """As the Protocol says."""
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._file, timeout=0, isolation_level=None)
                self._counted_by = mint(6)
            return self._counted_by, int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            await self.close()
            return None

    async def close(self) -> None:
        """As the Protocol says."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresRevision:
    """The text of `pg_current_snapshot()`: it lists the transactions that are not seen, so each commit changes it."""

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: Any = None
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[Hashable | None] | None = None

    async def now(self) -> Hashable | None:
        """As the Protocol says. Whoever asks while a question is under way shares the next one with all who do: what is
        under way may have been looked up before a commit of which they know.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._ask())
        return await asyncio.shield(self._next)

    async def _ask(self) -> Hashable | None:
        import psycopg

        async with self._one_at_a_time:
            self._next = None
            try:
                if self._connection is None:
                    self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
                cursor = await self._connection.execute("SELECT pg_current_snapshot()::text")
                return str((await cursor.fetchone())[0])
            except (psycopg.Error, OSError):
                await self._drop()
                return None

    async def close(self) -> None:
        """As the Protocol says."""
        async with self._one_at_a_time:
            await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it is broken; what it says of its end is no news
                await connection.close()
