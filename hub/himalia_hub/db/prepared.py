"""Statements that each start makes: compiled once, and in a database's threads given to the driver as they are.

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
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.sql.compiler import SQLCompiler

from himalia_hub.db.base import Base

M = TypeVar("M", bound=Base)
Values = Mapping[str, Any]

DRIVER: Final = "himalia driver"
"""In `Session.info`: what carries a statement out below the session, in its transaction: a `sqlite3.Connection` or a
`psycopg.RawCursor`, which have `execute` and `executemany` in common.
"""
SPEAKER: Final = "himalia speaker"
"""In `Session.info` of a `Database`: its `name`, by which it knows what it notified itself."""
IDLE_ENDED: Final = "25P03"
"""How PostgreSQL says that it ended a transaction (Appendix A: idle_in_transaction_session_timeout)."""


def is_postgresql(db: Session | AsyncSession) -> bool:
    """Whether this is PostgreSQL, where what SQLite's one writer gives for nothing needs a lock."""
    driver = db.info.get(DRIVER)
    return not isinstance(driver, sqlite3.Connection) and db.get_bind().dialect.name == "postgresql"


def as_sqlalchemys(error: Exception, text: str, dialect: Dialect) -> BaseException:
    """What SQLAlchemy would have raised for an error of the driver."""
    if getattr(error, "sqlstate", "") == IDLE_ENDED:  # the driver files it under internal errors
        return sa.exc.OperationalError(text, None, error, hide_parameters=True, connection_invalidated=True)
    base = dialect.loaded_dbapi.Error
    return sa.exc.DBAPIError.instance(text, None, error, base, hide_parameters=True, dialect=dialect)


class Prepared:
    """A statement about tables (not about mapped classes), asked with values by the names of its parameters.

    Elsewhere than in a database's threads it is carried out by SQLAlchemy. `build` gives the statement for a dialect's
    name; `given` are the columns of an insert. A list in place of one value (`expanding`) is not supported.
    """

    def __init__(
        self, build: sa.Executable | Callable[[str], sa.Executable], *, given: Collection[str] | None = None
    ) -> None:
        self._build = build
        self._given = None if given is None else list(given)
        self._compiled: dict[type, _Compiled] = {}

    def rows(self, db: Session, values: Values) -> Sequence[Any]:
        """What it finds, as tuples of what the columns' types make of it."""
        driver = db.info.get(DRIVER)
        if driver is None:
            return db.execute(self._statement(db), values).all()
        return self._for(db, driver).rows(driver, values)

    def row(self, db: Session, values: Values) -> Any:
        """The one row, or None."""
        found = self.rows(db, values)
        return found[0] if found else None

    def run(self, db: Session, values: Values) -> int:
        """Do it; how many rows an update or a deletion changed."""
        driver = db.info.get(DRIVER)
        if driver is None:
            return int(db.execute(self._statement(db), values).rowcount)  # type: ignore[attr-defined]
        return self._for(db, driver).run(driver, values)

    def run_each(self, db: Session, each: Sequence[Values]) -> None:
        """Do it with each of these values, as one call to the driver."""
        if not each:
            return
        driver = db.info.get(DRIVER)
        if driver is None:
            db.execute(self._statement(db), each)
        else:
            self._for(db, driver).run_each(driver, each)

    def _statement(self, db: Session) -> sa.Executable:
        return self._build(db.get_bind().dialect.name) if callable(self._build) else self._build

    def _for(self, db: Session, driver: object) -> _Compiled:
        db.flush()  # as before any other query
        compiled = self._compiled.get(type(driver))
        if compiled is None:
            dialect = _by_place(db.get_bind().dialect)
            compiled = self._compiled[type(driver)] = _Compiled(self._statement(db), dialect, self._given)
        return compiled


def _by_place(dialect: Dialect) -> Dialect:
    """The dialect in which values have places, not names: PostgreSQL's own `$1`, which the driver need not look for."""
    if dialect.positional:
        return dialect
    kind: Any = type(dialect)
    return cast("Dialect", kind(paramstyle="numeric_dollar", dbapi=dialect.loaded_dbapi))


@functools.cache
def columns_of(model: type[Base]) -> tuple[sa.Column[Any], ...]:
    """All columns of a mapped class, in the order in which `detached` and `attached` take them."""
    return tuple(cast("sa.Table", model.__table__).columns)


@functools.cache
def _names(model: type[Base]) -> tuple[str, ...]:
    mapper = sa.inspect(model)
    return tuple(mapper.get_property_by_column(column).key for column in columns_of(model))


@functools.cache
def _keys(model: type[Base]) -> tuple[int, ...]:
    return tuple(place for place, column in enumerate(columns_of(model)) if column.primary_key)


def detached(model: type[M], row: Sequence[Any]) -> M:
    """The object of a row of `columns_of(model)`, which no session knows: one that is only looked at."""
    mapper = sa.inspect(model)
    instance = cast("M", mapper.class_manager.new_instance())
    instance.__dict__.update(zip(_names(model), row, strict=True))
    # As `make_transient_to_detached` leaves it, which takes four times as long: it also looks for what is not loaded.
    key = mapper.identity_key_from_primary_key(tuple([row[place] for place in _keys(model)]))
    cast("Any", instance_state(instance)).key = key
    return instance


def attached(db: Session, model: type[M], row: Sequence[Any]) -> M:
    """The object of such a row in this session, as a query for it gives it: what is set on it is written.

    One that the session knows already is as the row is now, too.
    """
    made = detached(model, row)
    known: M | None = db.identity_map.get(cast("Any", instance_state(made)).key)
    if known is None:
        db.add(made)
        return made
    for name, value in zip(_names(model), row, strict=True):
        set_committed_value(known, name, value)
    return known


def hold(db: Session, function: str, key: str) -> None:
    """Take an advisory lock of PostgreSQL until the transaction ends. Only where `is_postgresql`.

    `function` is `pg_advisory_xact_lock`, or `pg_advisory_xact_lock_shared`.
    """
    _lock(function).rows(db, {"key": key})


@functools.cache
def _lock(function: str) -> Prepared:
    key = sa.func.hashtextextended(sa.bindparam("key", type_=sa.String), 0)
    return Prepared(sa.select(getattr(sa.func, function)(key)))


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
        self._dialect, self._error = dialect, dialect.loaded_dbapi.Error
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
        self._columns = [one.type.dialect_impl(dialect) for one in columns]
        self._readers: list[Any] | None = None

    def rows(self, driver: Any, values: Values) -> list[Any]:
        cursor = self._asked(driver, values)
        found: list[Any] = cursor.fetchall()
        readers = self._readers
        if readers is None:
            # PostgreSQL's numbers are read by what it says that they are, which comes with the first answer.
            kinds = [about[1] for about in cursor.description]
            readers = [
                one.result_processor(self._dialect, kind)
                for one, kind in zip(self._columns, kinds, strict=True)
            ]
            readers = self._readers = readers if any(readers) else []
        if not readers:
            return found
        return [
            tuple([value if read is None else read(value) for read, value in zip(readers, row, strict=True)])
            for row in found
        ]

    def run(self, driver: Any, values: Values) -> int:
        return int(self._asked(driver, values).rowcount)

    def run_each(self, driver: Any, each: Sequence[Values]) -> None:
        try:
            driver.executemany(self._text, [self._given(values) for values in each])
        except self._error as error:
            raise as_sqlalchemys(error, self._text, self._dialect) from error

    def _asked(self, driver: Any, values: Values) -> Any:
        given = self._given(values)
        try:
            return driver.execute(self._text, given)
        except self._error as error:
            raise as_sqlalchemys(error, self._text, self._dialect) from error

    def _given(self, values: Values) -> list[Any]:
        return [
            fixed if not name else values[name] if to_driver is None else to_driver(values[name])
            for name, to_driver, fixed in self._binds
        ]
