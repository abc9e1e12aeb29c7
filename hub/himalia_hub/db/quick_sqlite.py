"""SQLite by aiosqlite with one visit to the connection's thread for each statement, where SQLAlchemy makes four.

SQLAlchemy's dialect asks the thread for a cursor, to execute, for the rows and to close. Each of these is a
hand-over to another thread and back: 50 to 100 µs of processor, and in a busy process a wait for the interpreter's
lock. The statement itself takes 20 µs.
"""

from __future__ import annotations

import collections
import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
    SQLiteDialect_aiosqlite,
)

NAME = "sqlite+quick"


class _Done:
    """What a statement left: a sqlite3 cursor that was read to its end and closed."""

    __slots__ = ("arraysize", "description", "lastrowid", "rowcount")

    def __init__(self) -> None:
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def close(self) -> None:
        """It is."""


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    _awaitable_cursor_close = False

    def _make_new_cursor(self, connection: Any) -> Any:
        return _Done()

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    def close(self) -> None:
        self._rows.clear()

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        return await self._run("execute", operation, () if parameters is None else parameters)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        return await self._run("executemany", operation, seq_of_parameters)

    async def _run(self, verb: str, operation: Any, parameters: Any) -> None:
        connection: sqlite3.Connection = self._connection._conn

        def _visit() -> tuple[sqlite3.Cursor, list[Any]]:
            cursor = connection.cursor()
            try:
                getattr(cursor, verb)(operation, parameters)
                return cursor, cursor.fetchall() if cursor.description else []
            finally:
                cursor.close()

        async with self._adapt_connection._execute_mutex:
            cursor, rows = await self._connection._execute(_visit)
        self._rows = collections.deque(rows)
        done: Any = self._cursor
        done.description, done.rowcount, done.lastrowid = (
            cursor.description,
            cursor.rowcount,
            cursor.lastrowid,
        )


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = _Cursor

    def rollback(self) -> None:
        # The pool rolls back whatever comes home; mostly there is nothing to.
        if self._connection._connection and self._connection._connection.in_transaction:
            super().rollback()


class _Dbapi(AsyncAdapt_aiosqlite_dbapi):
    def connect(self, *arg: Any, **kw: Any) -> AsyncAdapt_aiosqlite_connection:
        made = super().connect(*arg, **kw)
        return _Connection(self, made._connection)


class QuickSqlite(SQLiteDialect_aiosqlite):
    """The dialect behind `sqlite+quick://`."""

    supports_statement_cache = True
    supports_server_side_cursors = False

    @classmethod
    def import_dbapi(cls) -> AsyncAdapt_aiosqlite_dbapi:
        """Our adaptation over the same driver."""
        return _Dbapi(__import__("aiosqlite"), sqlite3)


sa.dialects.registry.register("sqlite.quick", __name__, "QuickSqlite")
