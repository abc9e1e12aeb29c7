"""Work on PostgreSQL in threads of its own, each with a connection, a session and a cursor that it keeps.

SQLAlchemy's asynchronous way to psycopg and back costs 1.0 ms of CPU for a transaction of one statement, of which the
driver's part is 0.06: each statement changes stacks, waits by the event loop, makes a context and a cursor.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Session

from himalia_hub.db.prepared import DRIVER, as_sqlalchemys

T = TypeVar("T")
Work = Callable[[Session], Any]
_Asked = tuple[Work, asyncio.Future[Any], asyncio.AbstractEventLoop]

WRITERS: Final = 8
"""Some of them may wait for a lock that another hub has."""
READERS: Final = 2
"""They wait for no lock: as many as can be kept busy."""
TRUSTED_S: Final = 0.1
"""A connection that was used so shortly ago is used again without a look whether PostgreSQL has closed it."""
CLOSE_WITHIN_S: Final = 5.0
"""Whoever waits longer for a PostgreSQL that says nothing is left alone at the end."""


class PostgresThreads:
    """Threads that write, a transaction for each piece of work, and threads that read, each statement by itself.

    `info` is in the `info` of every session.

    Several hubs write here: work that was put together, as SQLite's is, would hold locks for longer, and in an
    order in which two hubs can wait for each other.
    """

    def __init__(self, engine: sa.Engine, info: dict[Any, Any]) -> None:
        self._writers = _Threads("postgres-writer", engine, info, WRITERS)
        reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._readers = _Threads("postgres-reader", reading, info, READERS)

    async def write(self, work: Callable[[Session], T]) -> T:
        """In a transaction, committed when it returns, undone when it raises."""
        result: T = await self._writers.ask(work)
        return result

    async def read(self, work: Callable[[Session], T]) -> T:
        """Each statement sees what was committed before it, as PostgreSQL's own level has it (read committed)."""
        result: T = await self._readers.ask(work)
        return result

    def close(self) -> None:
        """Wait for what is being done, then close the connections."""
        until = time.monotonic() + CLOSE_WITHIN_S
        for threads in (self._writers, self._readers):
            threads.close(until)


class _Line:
    """One connection, and a session on it that knows no objects when a piece of work begins."""

    def __init__(self, engine: sa.Engine, info: dict[Any, Any]) -> None:
        self._engine, self._info = engine, info
        self._connection: sa.Connection | None = None
        self._driver: Any = None
        self._session: Session | None = None
        self._used = 0.0

    def do(self, work: Work) -> Any:
        """What it returns, once it is committed; nothing of it is done when this raises."""
        try:
            session = self._ready()
            result = work(session)
            session.flush()
            self._commit()
        except BaseException:
            self._undo()
            raise
        session.expunge_all()  # nobody gets the objects of another
        self._used = time.monotonic()
        return result

    def end(self) -> None:
        """Close the connection; the next piece of work opens another."""
        connection, self._connection, self._session = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # it may be broken; what it says of its end is no news
                connection.close()

    def _ready(self) -> Session:
        if self._connection is not None and self._is_closed():
            self.end()
        if self._connection is None:
            self._connection = self._engine.connect()
            self._driver = self._connection.connection.dbapi_connection
            if self._driver.prepare_threshold:  # `prepare_threshold` in the URL may forbid it
                self._driver.prepare_threshold = 1  # with the second time: of few statements each comes again
        if self._session is None:
            # To SQLAlchemy this is one transaction that has no end; the driver begins and commits those there are.
            self._connection.begin()
            self._session = Session(
                self._connection,
                expire_on_commit=False,
                join_transaction_mode="rollback_only",
                info=self._info | {DRIVER: psycopg.RawCursor(self._driver)},
            )
        return self._session

    def _is_closed(self) -> bool:
        """Whether PostgreSQL has ended the connection, or says something unasked, which is as good as that."""
        if self._driver.closed:
            return True
        if time.monotonic() - self._used < TRUSTED_S:
            return False
        poll = select.poll()
        poll.register(self._driver.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _commit(self) -> None:
        try:
            self._driver.commit()
        except psycopg.Error as error:
            raise as_sqlalchemys(error, "COMMIT", self._engine.dialect) from error

    def _undo(self) -> None:
        session, self._session = self._session, None
        if self._connection is None:
            return
        try:
            if session is not None:
                session.close()
            self._connection.rollback()
        except Exception:
            self.end()
        else:
            if self._connection.invalidated or self._driver.closed:
                self.end()


class _Threads:
    """So many threads at most, each made when all others have something to do; whoever comes first is served first."""

    def __init__(self, name: str, engine: sa.Engine, info: dict[Any, Any], most: int) -> None:
        self._name, self._engine, self._info, self._most = name, engine, info, most
        self._waiting: SimpleQueue[_Asked | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._under_way = 0
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._called = False
        self._closed = False

    async def ask(self, work: Work) -> Any:
        """The result of `work(session)`. Who is cancelled while it is being done does not undo it."""
        if self._closed:
            raise RuntimeError("the database is closed")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._under_way += 1
        self._waiting.put((work, answer, loop))
        if self._under_way > len(self._threads) < self._most:
            # A daemon: a process that ends without closing its database does not wait for a thread that has no end.
            thread = Thread(target=self._work, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return await answer

    def _work(self) -> None:
        line = _Line(self._engine, self._info)
        while (asked := self._waiting.get()) is not None:
            work, answer, loop = asked
            result, error = None, None
            try:
                if not answer.done():
                    result = line.do(work)
            except BaseException as raised:  # whoever asked gets it
                error = raised
            self._done.append((answer, result, error))
            if not self._called:
                self._called = True
                with suppress(RuntimeError):  # the loop has ended, and nobody waits
                    loop.call_soon_threadsafe(self._give)
            del asked, work, answer, loop, result, error  # until the next, which may be long in coming
        line.end()

    def _give(self) -> None:
        self._called = False  # before it looks: what comes after that is called for again
        while self._done:
            answer, result, error = self._done.popleft()
            self._under_way -= 1
            if answer.done():
                continue
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

    def close(self, until: float) -> None:
        """Wait until then (monotonic) for what is being done."""
        self._closed = True
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
