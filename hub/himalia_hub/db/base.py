"""Declarative base, naming of constraints, and column types that read whatever lies in a row."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Forgiving(TypeDecorator[T]):
    """A value that cannot be read is `otherwise`, and never the end of the query that meets it.

    Each `otherwise` gives nothing away: damaged rights are none, a moment is over, a server at rest. The next write to
    the column mends it; until then `health/rows.py` names table and column.
    """

    otherwise: Any

    def read(self, value: Any) -> T | None:
        """What the database's own type made of it, as ours. ValueError or TypeError when that is something else."""
        raise NotImplementedError

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], T | None]:
        """Reads one value of a row."""
        inner = self.impl_instance.result_processor(dialect, coltype)
        read, otherwise = self.read, self.otherwise

        def process(value: Any) -> Any:
            try:
                if inner is not None:
                    value = inner(value)
                return None if value is None else read(value)
            except (ValueError, TypeError, LookupError):
                return otherwise()

        return process


class UtcDateTime(Forgiving[datetime]):
    """An aware moment in Python, naive UTC in the database. Writing a naive one is a bug and raises."""

    impl = sa.DateTime
    cache_ok = True

    @staticmethod
    def otherwise() -> datetime:
        """Long over."""
        return LONG_AGO

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Naive UTC for the driver."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: use clock.now()")
        return value.astimezone(UTC).replace(tzinfo=None)

    def read(self, value: datetime) -> datetime:
        """Aware UTC for us."""
        return value.replace(tzinfo=UTC)


class Document(Forgiving[Any]):
    """A JSON object, or with `list` an array; a damaged one is empty."""

    impl = sa.JSON
    cache_ok = True
    should_evaluate_none = True  # as JSON itself: None is written as `null`

    def __init__(self, shape: type[dict[str, Any] | list[Any]] = dict) -> None:
        super().__init__()
        self.shape = self.otherwise = shape

    def read(self, value: Any) -> Any:
        """The document, when it has that shape."""
        if not isinstance(value, self.shape):
            raise TypeError("another kind of document")
        return value

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """As JSON itself, so that parts can be asked for."""
        return self.impl_instance.coerce_compared_value(op, value)


class Word(Forgiving[E]):
    """One of an enumeration's words, 16 characters at most; one that is none of them is `otherwise`."""

    impl = sa.String
    cache_ok = True

    def __init__(self, kind: type[E], otherwise: E) -> None:
        super().__init__(16)
        self.kind = kind
        self.otherwise = lambda: otherwise

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        """The word itself. ValueError for one that is not of the enumeration."""
        return None if value is None else self.kind(value).value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], E | None]:
        """The member of that word, by one look into a dictionary: each row of a server has two."""
        members, otherwise = {member.value: member for member in self.kind}, self.otherwise()

        def process(value: Any) -> E | None:
            return None if value is None else members.get(value, otherwise)

        return process


class Base(DeclarativeBase):
    """Base of every model."""

    metadata = sa.MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: Document(dict),
        list[str]: Document(list),
    }


def insert_of(model: type[Base]) -> sa.Insert:
    """A statement that adds one row, values by column name; the unit of work takes several times as long for one."""
    return sa.insert(cast("sa.Table", model.__table__))


def insert_for(dialect: str) -> Any:
    """This database's `insert`, which knows what to do about a row that is there; the other one's is never loaded."""
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert


@functools.cache
def insert_unless_there(model: type[Base], dialect: str, *, whole: bool = False) -> Any:
    """The same, which does nothing where a row with one of its unique values is there; gives the new row's id, or all
    of its columns.
    """
    gives = model.__table__.c if whole else (model.__table__.c.id,)
    return insert_for(dialect)(model.__table__).on_conflict_do_nothing().returning(*gives)
