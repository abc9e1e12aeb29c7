"""Bringing a database to the schema of this release. The same path from a checkout, a wheel and an image.

Alembic is synchronous: the work runs in a thread. One transaction holds everything, behind a lock of the
database itself, so of two replicas that start at once one migrates and the other finds it done.

Alembic is imported only when there is something to change: it would stay in the hub's memory (11 MB) for good.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from himalia_hub.db.engine import BUSY_TIMEOUT_S, sync_url
from himalia_hub.errors import ConfigError, Unavailable
from himalia_migrations.locate import revisions, script_location

if TYPE_CHECKING:
    from alembic.config import Config

PG_LOCK_KEY = 0x48494D41  # "HIMA": any number that no other program is likely to take
PG_LOCK_WAIT_S = 60
T = TypeVar("T")

# What alembic says at "info" is its own bookkeeping; callers say what was done.
logging.getLogger("alembic").setLevel(logging.WARNING)

# Alembic's `context` is one per process, so two upgrades in one process take turns.
_one_at_a_time = threading.Lock()


class SchemaError(ConfigError):
    """The database's schema does not fit this release. The message names both revisions and what to do."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade did. `before` is None for an empty database; `copy`: the old state."""

    before: str | None
    after: str
    copy: Path | None

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return self.before != self.after

    def __str__(self) -> str:
        """For the person who watches: the revision, and where the old state is kept."""
        if self.copy is None:
            return self.after
        return f"{self.after} (it was {self.before}, kept as {self.copy})"


async def upgrade(url: str) -> Upgrade:
    """Bring the database to this release's schema; harmless when it is there already.

    SchemaError when a newer release or another program made it; Unavailable when it cannot be reached.
    """
    return await asyncio.to_thread(upgrade_blocking, url)


async def current(url: str) -> str | None:
    """The revision of the database, None when it is empty. Nothing is created by asking."""
    return await asyncio.to_thread(current_blocking, url)


async def check(url: str) -> str:
    """The revision when the database fits this release; else SchemaError that says what to do."""
    return await asyncio.to_thread(check_blocking, url)


def head() -> str:
    """The revision that this release needs."""
    return revisions()[-1]


def upgrade_blocking(url: str) -> Upgrade:
    """What `upgrade` does, in this thread."""
    parsed = sync_url(url)
    newest = head()
    _keep_private(parsed)
    with _one_at_a_time, _connection(parsed) as connection:
        _lock(connection)
        before = _revision(connection)
        _refuse_unknown(before, connection)
        if before == newest:
            return Upgrade(before, newest, None)
        copy = _copy_sqlite(parsed, before) if before else None
        _run_alembic(connection)
        _check_references(connection)
        connection.commit()
        return Upgrade(before, newest, copy)


def current_blocking(url: str) -> str | None:
    """What `current` does, in this thread."""
    parsed = sync_url(url)
    if _missing_file(parsed):
        return None
    with _connection(parsed) as connection:
        return _revision(connection)


def check_blocking(url: str) -> str:
    """What `check` does, in this thread."""
    parsed, newest = sync_url(url), head()
    revision: str | None = None
    if not _missing_file(parsed):
        with _connection(parsed) as connection:
            revision = _revision(connection)
            _refuse_unknown(revision, connection)
    if revision != newest:
        stands = f"is at revision {revision!r}" if revision else "is empty"
        raise SchemaError(
            f"the database {stands}, this release needs {newest!r}",
            remedy="himalia db upgrade",
        )
    return newest


def build_blocking(url: str, revision: str, fill: Callable[[Connection], None]) -> str:
    """Make an empty database as it was at `revision`, have `fill` put rows in, bring it to this release.

    All of it or nothing. SchemaError when it is not empty, or the revision is none of ours.
    """
    parsed = sync_url(url)
    with _one_at_a_time, _connection(parsed) as connection:
        _lock(connection)
        if tables := sa.inspect(connection).get_table_names():
            raise SchemaError(f"the database is not empty: it has a table {tables[0]!r}; nothing was changed")
        if revision not in revisions():
            raise SchemaError(
                f"revision {revision!r} is not known to this release, which ends at {head()!r}; use the release "
                "that made it, or a newer one"
            )
        _run_alembic(connection, revision)
        fill(connection)
        _run_alembic(connection, "head")
        _check_references(connection)
        connection.commit()
    return head()


def read_blocking(url: str, look: Callable[[Connection, str], T]) -> T:
    """What `look(connection, revision)` sees of one moment, whatever others write meanwhile."""
    parsed = sync_url(url)
    check_blocking(url)
    with _connection(parsed) as connection:
        if parsed.get_backend_name() != "sqlite":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        return look(connection, head())


def _run_alembic(connection: Connection, to: str = "head") -> None:
    from alembic import command

    config = _alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", script_location().replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def _refuse_unknown(revision: str | None, connection: Connection) -> None:
    known = revisions()
    newest = known[-1]
    if revision is not None and revision not in known:
        raise SchemaError(
            f"the database is at revision {revision!r}, this release knows revisions up to {newest!r}: "
            "a newer release or another program made it. Use that release, or set db.url to an empty database"
        )
    if revision is None and "users" in sa.inspect(connection).get_table_names():
        raise SchemaError(
            "the database holds tables but no revision: another program made them; set db.url to an empty one"
        )


@contextmanager
def _connection(url: URL) -> Iterator[Connection]:
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.OperationalError as error:
        cause = str(error.orig).strip().splitlines()[0]
        raise Unavailable(
            f"the database {url.render_as_string(hide_password=True)} cannot be used: {cause}",
            remedy="may the hub write there?"
            if url.get_backend_name() == "sqlite"
            else "start it, or correct db.url",
        ) from error
    finally:
        engine.dispose()


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return sa.create_engine(url, poolclass=sa.NullPool)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"db.url names PostgreSQL but {error.name} is missing; run: pip install 'himalia[postgres]'"
        ) from None
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _leave_transactions_to_us)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
    # Foreign keys stay off here (SQLite's default): a batch step rebuilds a table by dropping the old one,
    # and with foreign keys on that drop would delete every row that refers to it.
    connection.isolation_level = None


def _lock(connection: Connection) -> None:
    """Wait until no other process migrates. Held until the transaction ends, so it dies with its holder."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PG_LOCK_WAIT_S}s'")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({PG_LOCK_KEY})")
    # The running release must not queue for long behind a step that waits for a table.
    connection.exec_driver_sql("SET LOCAL lock_timeout = '4s'")
    connection.exec_driver_sql("SET LOCAL statement_timeout = '5s'")


def _check_references(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        return
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise SchemaError(
            f"after the upgrade a row of {broken[0]!r} would refer to nothing; nothing was changed"
        )


def _missing_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists())


def _keep_private(url: URL) -> None:
    """An SQLite file is its owner's alone: it holds password hashes, and servers may run as other accounts."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return
    with suppress(OSError):  # of another owner, or in no folder: opening it says so in words
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600))
        for file in (Path(url.database), *(Path(url.database + end) for end in ("-wal", "-shm"))):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)


def _copy_sqlite(url: URL, revision: str) -> Path | None:
    """A complete copy beside the database, for the person who wants to go back; None on PostgreSQL."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    source = Path(url.database)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy = source.with_name(f"{source.name}.{revision}-{moment}")
    unfinished = copy.with_name(copy.name + ".part")
    os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(unfinished)) as new:
        old.backup(new)
    unfinished.replace(copy)
    return copy
