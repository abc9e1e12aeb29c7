"""The engine: one async API over SQLite (WAL) and PostgreSQL (psycopg 3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from himalia_hub.db.revision import PostgresRevision, Revision, SqliteRevision
from himalia_hub.errors import ConfigError

BUSY_TIMEOUT_S = 30


def async_url(url: str) -> URL:
    """The URL with the async driver we ship: aiosqlite or psycopg 3. Other databases are refused by name."""
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigError(f"db.url is not a database URL: {error}") from None
    match parsed.get_backend_name():
        case "sqlite":
            return parsed.set(drivername="sqlite+aiosqlite")
        case "postgresql":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise ConfigError(f"db.url names {other!r}; sqlite and postgresql are supported")


def sync_url(url: str) -> URL:
    """The same database for alembic, which is synchronous."""
    parsed = async_url(url)
    return parsed.set(drivername="sqlite") if parsed.get_backend_name() == "sqlite" else parsed


def is_full(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether a statement failed because there is no room on the database's disk."""
    cause = getattr(error, "orig", None)
    full = getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL"
    return full or getattr(cause, "sqlstate", "") == "53100"  # PostgreSQL: disk_full


class Database:
    """Sessions on one database.

    `begin()` is a write transaction that commits at the end of the block; `read()` never writes.
    Neither is held over an await that is not the database (architecture: loop rules).
    """

    def __init__(self, url: str) -> None:
        self.url = async_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _make_engine(self.url)
        self.revision: Revision = SqliteRevision(self.url) if self.is_sqlite else PostgresRevision(self.url)
        self._writing = self.engine.execution_options(himalia_write=True)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """A write transaction; committed at the end of the block, rolled back when it raises."""
        async with AsyncSession(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A snapshot to read from."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield session

    async def close(self) -> None:
        """Close every connection."""
        await self.revision.close()
        await self.engine.dispose()


def _make_engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        return create_async_engine(
            url, pool_pre_ping=True, pool_size=10, max_overflow=10, hide_parameters=True
        )
    engine = create_async_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)
    sa.event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
    sa.event.listen(engine.sync_engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # Python's driver would open transactions by itself, and only deferred ones; the begin hook does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # WAL + NORMAL survives the death of any process
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later can fail with SQLITE_BUSY at once, with no
    # waiting; taking the write lock up front makes it wait its turn.
    writing = connection.get_execution_options().get("himalia_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
