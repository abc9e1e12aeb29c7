"""Rows of a database as lines of JSON and back, the same for SQLite and PostgreSQL.

The tables are read off the database, not off the models: a backup of an older release is loaded into that release's
schema and upgraded afterwards, as its own database would have been.

A table is one header `{"columns": [...], "kinds": [...]}` and one array a row. Kinds: `plain`; `time`, naive UTC as
ISO 8601; `json`, the document's own text, so that the JSON `null` and the absence of a value stay apart; `bytes`,
base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from himalia_hub.errors import BadRequest

AT_ONCE = 1000
NOT_OURS = frozenset({"alembic_version", "hubs"})
"""The schema's own, and who runs at this moment."""

Told = Callable[[str, int], None]
"""Is called with a table's name and the rows of it that are done."""


def tables_of(connection: Connection) -> list[sa.Table]:
    """Every table, those first that others refer to."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name not in NOT_OURS]


def counts(connection: Connection) -> dict[str, int]:
    """Rows by table, in the order of `tables_of`."""
    return {
        table.name: int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)
        for table in tables_of(connection)
    }


def dump(connection: Connection, table: sa.Table, told: Told) -> Iterator[str]:
    """The lines of one table, without their ends."""
    kinds = [_kind(column) for column in table.columns]
    yield json.dumps({"columns": [column.name for column in table.columns], "kinds": kinds})
    shown = [
        sa.cast(column, sa.Text) if kind == "json" else column
        for column, kind in zip(table.columns, kinds, strict=True)
    ]
    done = 0
    for row in connection.execution_options(yield_per=AT_ONCE).execute(sa.select(*shown)):
        values = [_out(kind, value) for kind, value in zip(kinds, row, strict=True)]
        yield json.dumps(values, ensure_ascii=False)
        done += 1
        if done % AT_ONCE == 0:
            told(table.name, done)
    told(table.name, done)


def load(connection: Connection, table: sa.Table, lines: Iterable[str], told: Told) -> int:
    """Put the lines that `dump` made into an empty table; how many rows. BadRequest names what does not fit."""
    rest = iter(lines)
    header = json.loads(next(rest))
    names, kinds = header["columns"], header["kinds"]
    if unknown := sorted(set(names) - set(table.columns.keys())):
        raise BadRequest(f"the backup has a column {table.name}.{unknown[0]} that its revision does not have")
    for column in table.columns:
        if isinstance(column.type, sa.JSON):
            column.type = sa.JSON(none_as_null=True)
    done = 0
    while some := list(islice(rest, AT_ONCE)):
        rows = [
            {name: _in(kind, value) for name, kind, value in zip(names, kinds, json.loads(line), strict=True)}
            for line in some
        ]
        connection.execute(table.insert(), rows)
        done += len(rows)
        told(table.name, done)
    _go_on_counting(connection, table)
    return done


def _kind(column: sa.Column[Any]) -> str:
    match column.type:
        case sa.JSON():
            return "json"
        case sa.DateTime():
            return "time"
        case sa.LargeBinary():
            return "bytes"
        case sa.String() | sa.Integer() | sa.Float() | sa.Boolean():
            return "plain"
        case other:
            raise NotImplementedError(
                f"{column.table.name}.{column.name} is a {other!r}; teach rows.py to copy it"
            )


def _out(kind: str, value: Any) -> Any:
    if value is None:
        return None
    match kind:
        case "time":
            return value.isoformat()
        case "bytes":
            return base64.b64encode(value).decode()
        case _:
            return value


def _in(kind: str, value: Any) -> Any:
    if value is None:
        return None
    match kind:
        case "time":
            return datetime.fromisoformat(value)
        case "bytes":
            return base64.b64decode(value)
        case "json":
            document = json.loads(value)
            return sa.JSON.NULL if document is None else document
        case _:
            return value


def _go_on_counting(connection: Connection, table: sa.Table) -> None:
    """PostgreSQL's counters do not notice rows that bring their own number."""
    key = list(table.primary_key.columns)
    if connection.dialect.name != "postgresql" or len(key) != 1 or not isinstance(key[0].type, sa.Integer):
        return
    last = connection.scalar(sa.select(sa.func.max(key[0])))
    sequence = connection.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, key[0].name)))
    if last is not None and sequence is not None:
        connection.execute(sa.select(sa.func.setval(sequence, last)))
