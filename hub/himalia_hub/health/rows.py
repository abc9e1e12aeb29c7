"""What lies in rows and cannot be read: see `Forgiving` in db/base.py for what it counts as meanwhile."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

import himalia_hub
from himalia_hub.db.base import Base, Document, UtcDateTime, Word
from himalia_hub.languages import counted


def load_every_model() -> None:
    """Have `Base.metadata` know all tables."""
    for module in pkgutil.walk_packages(himalia_hub.__path__, "himalia_hub."):
        if module.name.endswith((".models", ".lease")):
            importlib.import_module(module.name)


def unreadable(connection: Connection) -> Iterator[str]:
    """A sentence for each column that holds any, of tables that are there. Each table is read once."""
    load_every_model()
    there = set(sa.inspect(connection).get_table_names())
    for table in Base.metadata.sorted_tables:
        asked = {column.name: _bad(column, connection.dialect.name) for column in table.columns}
        wrong = {name: clause for name, clause in asked.items() if clause is not None}
        if not wrong or table.name not in there:
            continue
        sums = [sa.func.sum(sa.case((clause, 1), else_=0)) for clause in wrong.values()]
        for name, count in zip(
            wrong, connection.execute(sa.select(*sums).select_from(table)).one(), strict=True
        ):
            if count:
                yield counted(
                    "%(num)s row of %(table)s cannot be read in %(column)s",
                    "%(num)s rows of %(table)s cannot be read in %(column)s",
                    int(count),
                    table=repr(table.name),
                    column=repr(name),
                )


def _bad(column: sa.Column[object], dialect: str) -> sa.ColumnElement[bool] | None:
    """True where the column holds what its type cannot read; None when it always can."""
    kind, raw = column.type, sa.type_coerce(column, sa.Text())
    if isinstance(kind, Word):
        return raw.not_in([word.value for word in kind.kind])
    if isinstance(kind, Document):
        shapes = ["null", "object" if kind.shape is dict else "array"]
        if dialect == "postgresql":
            return sa.func.json_typeof(raw).not_in(shapes)
        return sa.case((sa.func.json_valid(raw) == 0, True), else_=sa.func.json_type(raw).not_in(shapes))
    if isinstance(kind, UtcDateTime) and dialect == "sqlite":  # which keeps any text for a moment
        return sa.and_(raw.is_not(None), sa.func.datetime(raw).is_(None))
    return None
