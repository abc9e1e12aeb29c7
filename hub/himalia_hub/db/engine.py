"""The engine: one async API over SQLite (WAL) and PostgreSQL (psycopg 3)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from himalia_hub.db import quick_sqlite
from himalia_hub.db.prepared import IDLE_ENDED, SPEAKER
from himalia_hub.db.revision import PostgresRevision, Revision, SqliteRevision
from himalia_hub.db.sqlite_threads import SqliteThreads
from himalia_hub.errors import ConfigError

if TYPE_CHECKING:
    from himalia_hub.db.postgres_threads import PostgresThreads

T = TypeVar("T")

BUSY_TIMEOUT_S = 30
LONGEST_LOG = 10_000
"""Pages in SQLite's log with which a commit copies them into the database itself; `checkpoints.py` is earlier."""
IDLE_IN_TRANSACTION_S = 20
"""PostgreSQL ends a transaction that says nothing for so long: its hub was stopped, or is cut off. That is shorter than
others wait for its locks, so that they get them.
"""


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
    Neither is held over an await that is not the database (architecture: loop rules). Where nothing but the database is
    awaited, three others are cheaper, as five statements in one visit to a database's thread cost a quarter of five
    awaited ones, or less: `write()` for a function of a synchronous session, `begin_in_one()` and `read_in_one()` for a
    coroutine.
    """

    def __init__(self, url: str) -> None:
        self.url = async_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.name = secrets.token_urlsafe(6)
        self._info = {SPEAKER: self.name}
        self.engine = _make_engine(self.url)
        self.revision: Revision = SqliteRevision(self.url) if self.is_sqlite else PostgresRevision(self.url)
        self._writing = self.engine.execution_options(himalia_write=True)
        # SQLite has one writer, and who finds it busy sleeps and looks again, up to 100 ms after it is free. In one
        # process people can simply queue.
        self._one_writer = asyncio.Lock() if self.is_sqlite else contextlib.nullcontext()
        self._threads = (
            SqliteThreads(_plain_sqlite(self.url), self._one_writer)
            if self.is_sqlite
            else _postgres_threads(self.url, self._info)
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """A write transaction; committed at the end of the block, rolled back when it raises."""
        async with (
            self._one_writer,
            AsyncSession(self._writing, expire_on_commit=False, info=self._info) as session,
            session.begin(),
        ):
            yield session

    async def write(self, work: Callable[[Session], T]) -> T:
        """`work(session)` in a write transaction, committed when it returns, rolled back when it raises."""
        return await self._threads.write(work)

    async def begin_in_one(self, work: Callable[[AsyncSession], Coroutine[Any, Any, T]]) -> T:
        """`begin()` around `await work(session)`, which awaits this session and nothing else."""
        return await self._threads.write(lambda session: _without_waiting(work(_Awaited(session))))

    async def read_in_one(self, work: Callable[[AsyncSession], Coroutine[Any, Any, T]]) -> T:
        """`read()` around `await work(session)`, which awaits this session and nothing else."""
        return await self._threads.read(lambda session: _without_waiting(work(_Awaited(session))))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A snapshot to read from."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield session

    async def close(self) -> None:
        """Close every connection."""
        await self.revision.close()
        self._threads.close()
        await self.engine.dispose()


class _Awaited(AsyncSession):
    """The asynchronous face of a synchronous session: awaiting it never waits, as SQLAlchemy hands over to the event
    loop only where a driver asks it to.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(sync_session_class=cast("type[Session]", lambda **_: session))

    # The inherited ones make sure that an asynchronous cursor is read to its end, in a greenlet; here is none.

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        return self.sync_session.execute(*args, **kwargs)

    async def scalar(self, *args: Any, **kwargs: Any) -> Any:
        return self.sync_session.scalar(*args, **kwargs)

    async def scalars(self, *args: Any, **kwargs: Any) -> Any:
        return self.sync_session.scalars(*args, **kwargs)

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        return self.sync_session.get(*args, **kwargs)

    async def run_sync(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return fn(self.sync_session, *args, **kwargs)


def _without_waiting(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits, without an event loop; RuntimeError when it does wait."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    work.close()
    raise RuntimeError("something but the database was awaited within a transaction in one visit")


def _postgres_threads(url: URL, info: dict[Any, Any]) -> PostgresThreads:
    # Its driver is installed only where it is asked for.
    from himalia_hub.db.postgres_threads import PostgresThreads

    engine = sa.create_engine(
        url, poolclass=sa.NullPool, hide_parameters=True
    )  # each thread keeps its connection
    _prepare_postgres(engine)
    return PostgresThreads(engine, info)


def _make_engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        engine = create_async_engine(
            url, pool_pre_ping=True, pool_size=5, max_overflow=5, hide_parameters=True
        )
        _prepare_postgres(engine.sync_engine)
        return engine
    engine = create_async_engine(
        url.set(drivername=quick_sqlite.NAME), connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True
    )
    _prepare_sqlite(engine.sync_engine)
    return engine


def _plain_sqlite(url: URL) -> sa.Engine:
    """An engine over Python's own driver, for threads."""
    engine = sa.create_engine(
        url.set(drivername="sqlite"),
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},  # closed by neither
        hide_parameters=True,
    )
    _prepare_sqlite(engine)
    return engine


def _prepare_postgres(engine: sa.Engine) -> None:
    sa.event.listen(engine, "connect", _on_postgres_connect)
    sa.event.listen(engine, "handle_error", _on_postgres_error)


def _on_postgres_connect(connection: Any, _record: Any) -> None:
    # Said here rather than in the URL, where it would take the place of options that somebody wrote there.
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'")
    cursor.execute(f"SET lock_timeout = '{BUSY_TIMEOUT_S}s'")
    # Whoever waits for a row must see it as it then is: a site may have made stricter transactions its usual ones.
    cursor.execute("SET default_transaction_isolation = 'read committed'")
    cursor.close()
    connection.commit()  # pooled connections are rolled back, and this with them


def _on_postgres_error(context: ExceptionContext) -> None:
    # The driver files it under internal errors. It is a connection that is gone, as when PostgreSQL was restarted.
    if getattr(context.original_exception, "sqlstate", "") == IDLE_ENDED:
        context.is_disconnect = True
        raise sa.exc.OperationalError(
            context.statement,
            None,
            context.original_exception,
            hide_parameters=True,
            connection_invalidated=True,
        )


def _prepare_sqlite(engine: sa.Engine) -> None:
    sa.event.listen(engine, "connect", _on_sqlite_connect)
    sa.event.listen(engine, "begin", _on_sqlite_begin)


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # Python's driver would open transactions by itself, and only deferred ones; the begin hook does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # WAL + NORMAL survives the death of any process
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA wal_autocheckpoint={LONGEST_LOG}")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later can fail with SQLITE_BUSY at once, with no
    # waiting; taking the write lock up front makes it wait its turn.
    writing = connection.get_execution_options().get("himalia_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
