"""Whether the rows can be reached, fit this release, and are whole."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection, make_url

from himalia_hub.db import migrate
from himalia_hub.errors import ConfigError, Unavailable
from himalia_hub.health.finding import Finding, ok, problem
from himalia_hub.health.rows import unreadable
from himalia_hub.settings import HubSettings

CLOCKS_APART = timedelta(seconds=2)
"""Leases last ten seconds of the database's clock; hubs whose clocks differ by more would judge each other wrongly."""


def database(settings: HubSettings) -> Iterator[Finding]:
    """One finding a question. A database that does not answer ends the questions."""
    try:
        if migrate.current_blocking(settings.db_url) is None:
            yield ok("database", "empty; its tables are made at the first start")
            return
        found = migrate.read_blocking(settings.db_url, _examine)
    except migrate.SchemaError as error:
        yield problem("database", str(error), error.remedy or "use the release that made it")
        return
    except (ConfigError, Unavailable) as error:
        yield problem("database", str(error), "start the database, or correct db.url")
        return
    yield from found


def _examine(connection: Connection, revision: str) -> list[Finding]:
    shown = make_url(str(connection.engine.url)).render_as_string(hide_password=True)
    found = [ok("database", f"{shown} answers and is at revision {revision}")]
    found += _rows(connection)
    if connection.dialect.name != "sqlite":
        found.append(_clock(connection))
    return found


def _sqlite(connection: Connection) -> Finding | None:
    """Damage that only a database in a file can have."""
    words = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(3)")]
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    remedy = "stop the hub and put a backup back: himalia restore FILE --replace"
    if words != ["ok"]:
        return problem("rows", f"the database file is damaged: {'; '.join(words)}", remedy)
    if broken is not None:
        return problem(
            "rows", f"row {broken[1]} of {broken[0]!r} refers to a row of {broken[2]!r} that is gone", remedy
        )
    return None


def _rows(connection: Connection) -> Iterator[Finding]:
    damage = _sqlite(connection) if connection.dialect.name == "sqlite" else None
    if damage is not None:
        yield damage
    found = False
    for said in () if damage is not None and "damaged" in damage.said else unreadable(connection):
        found = True
        yield problem(
            "rows",
            said,
            "they count for nothing until they are written anew; or put a backup back: himalia restore FILE --replace",
        )
    if damage is None and not found:
        yield ok("rows", "all rows are whole")


def _clock(connection: Connection) -> Finding:
    theirs = connection.scalar(sa.text("SELECT clock_timestamp() AT TIME ZONE 'UTC'"))
    assert isinstance(theirs, datetime)
    apart = abs(datetime.now(UTC) - theirs.replace(tzinfo=UTC))
    if apart > CLOCKS_APART:
        return problem(
            "clock",
            f"this machine and the database are {apart.total_seconds():.0f} s apart",
            "set both by NTP (timedatectl set-ntp true)",
        )
    return ok("clock", "this machine and the database agree")
