"""Statements that each start makes: compiled once, and on SQLite's threads given to the driver as they are.

A statement takes SQLite about 10 µs. SQLAlchemy's way to the driver and back takes 60 to 100, and an object made of a
row as much again: it looks the compiled form up, makes a context, a cursor, a result with names, and an identity.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql.compiler import SQLCompiler

from himalia_hub.db.base import Base

M = TypeVar("M", bound=Base)
Values = Mapping[str, Any]

DRIVER: Final = "himalia driver"
"""In `Session.info`: the `sqlite3.Connection` below the session, which is in a transaction."""


def is_postgresql(db: Session | AsyncSession) -> bool:
    """Whether this is PostgreSQL, where what SQLite's one writer gives for nothing needs a lock."""
    return DRIVER not in db.info and db.get_bind().dialect.name == "postgresql"


class Prepared:
    """A statement about tables (not about mapped classes), asked with values by the names of its parameters.

    Elsewhere than in SQLite's threads it is carried out by SQLAlchemy. `build` gives the statement for a dialect's
    name; `given` are the columns of an insert. A list in place of one value (`expanding`) is not supported.
    """

    def __init__(
        self, build: sa.Executable | Callable[[str], sa.Executable], *, given: Collection[str] | None = None
    ) -> None:
        self._build = build
        self._given = None if given is None else list(given)
        self._compiled: _Compiled | None = None

    def rows(self, db: Session, values: Values) -> Sequence[Any]:
        """What it finds, as tuples of what the columns' types make of it."""
        driver = db.info.get(DRIVER)
        if driver is None:
            return db.execute(self._statement(db), values).all()
        return self._for(db).rows(driver, values)

    def row(self, db: Session, values: Values) -> Any:
        """The one row, or None."""
        found = self.rows(db, values)
        return found[0] if found else None

    def run(self, db: Session, values: Values) -> int:
        """Do it; how many rows an update or a deletion changed."""
        driver = db.info.get(DRIVER)
        if driver is None:
            return int(db.execute(self._statement(db), values).rowcount)  # type: ignore[attr-defined]
        return self._for(db).run(driver, values)

    def run_each(self, db: Session, each: Sequence[Values]) -> None:
        """Do it with each of these values, as one call to the driver."""
        if not each:
            return
        driver = db.info.get(DRIVER)
        if driver is None:
            db.execute(self._statement(db), each)
        else:
            self._for(db).run_each(driver, each)

    def _statement(self, db: Session) -> sa.Executable:
        return self._build(db.get_bind().dialect.name) if callable(self._build) else self._build

    def _for(self, db: Session) -> _Compiled:
        db.flush()  # as before any other query
        if self._compiled is None:
            self._compiled = _Compiled(self._statement(db), db.get_bind().dialect, self._given)
        return self._compiled


@functools.cache
def columns_of(model: type[Base]) -> tuple[sa.Column[Any], ...]:
    """All columns of a mapped class, in the order in which `detached` and `attached` take them."""
    return tuple(cast("sa.Table", model.__table__).columns)


@functools.cache
def _names(model: type[Base]) -> tuple[str, ...]:
    mapper = sa.inspect(model)
    return tuple(mapper.get_property_by_column(column).key for column in columns_of(model))


def detached(model: type[M], row: Sequence[Any]) -> M:
    """The object of a row of `columns_of(model)`, which no session knows: one that is only looked at."""
    instance = cast("M", sa.inspect(model).class_manager.new_instance())
    instance.__dict__.update(zip(_names(model), row, strict=True))
    make_transient_to_detached(instance)
    return instance


def attached(db: Session, model: type[M], row: Sequence[Any]) -> M:
    """The object of such a row in this session, as a query for it gives it: what is set on it is written.

    One that the session knows already is as the row is now, too.
    """
    mapper = sa.inspect(model)
    key = [value for column, value in zip(columns_of(model), row, strict=True) if column.primary_key]
    known = db.identity_map.get(mapper.identity_key_from_primary_key(tuple(key)))
    if known is None:
        made = detached(model, row)
        db.add(made)
        return made
    for name, value in zip(_names(model), row, strict=True):
        set_committed_value(known, name, value)
    return cast("M", known)


class _Compiled:
    """The text for the driver, what is done to each value on its way there, and to each column on its way back."""

    def __init__(self, statement: Any, dialect: Dialect, given: list[str] | None) -> None:
        compiled = cast("SQLCompiler", statement.compile(dialect=dialect, column_keys=given))
        self._text = str(compiled)
        defaults: dict[str, Any] = {column.key: column.default for column in compiled.insert_prefetch}
        if (
            "POSTCOMPILE" in self._text
            or compiled.update_prefetch
            or not all(one.is_scalar for one in defaults.values())
        ):
            raise ValueError(f"cannot be prepared: {self._text}")
        self._dialect = dialect
        self._binds: list[tuple[str, Callable[[Any], Any] | None, Any]] = []
        for name in compiled.positiontup or []:
            bind = compiled.binds[name]
            to_driver = bind.type.dialect_impl(dialect).bind_processor(dialect)
            fixed = (
                defaults[name].arg if name in defaults else None if bind.required else bind.effective_value
            )
            fixed = fixed if bind.required or to_driver is None else to_driver(fixed)
            self._binds.append((bind.key if bind.required else "", to_driver, fixed))
        columns = statement.exported_columns if statement.is_select or compiled.effective_returning else ()
        readers = [one.type.dialect_impl(dialect).result_processor(dialect, None) for one in columns]
        self._readers = readers if any(readers) else []

    def rows(self, driver: sqlite3.Connection, values: Values) -> list[Any]:
        found = self._asked(driver, values).fetchall()
        readers = self._readers
        if not readers:
            return found
        return [
            tuple([value if read is None else read(value) for read, value in zip(readers, row, strict=True)])
            for row in found
        ]

    def run(self, driver: sqlite3.Connection, values: Values) -> int:
        return self._asked(driver, values).rowcount

    def run_each(self, driver: sqlite3.Connection, each: Sequence[Values]) -> None:
        try:
            driver.executemany(self._text, [self._given(values) for values in each])
        except sqlite3.Error as error:
            raise self._said(error) from error

    def _asked(self, driver: sqlite3.Connection, values: Values) -> sqlite3.Cursor:
        given = self._given(values)
        try:
            return driver.execute(self._text, given)
        except sqlite3.Error as error:
            raise self._said(error) from error

    def _given(self, values: Values) -> list[Any]:
        return [
            fixed if not name else values[name] if to_driver is None else to_driver(values[name])
            for name, to_driver, fixed in self._binds
        ]

    def _said(self, error: sqlite3.Error) -> BaseException:
        return sa.exc.DBAPIError.instance(
            self._text, None, error, sqlite3.Error, hide_parameters=True, dialect=self._dialect
        )
