"""Work on SQLite in threads of its own: what waits for the same thread is done in one visit to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from himalia_hub.db.prepared import DRIVER

T = TypeVar("T")
Work = Callable[[Session], Any]
_Asked = tuple[Work, asyncio.Future[Any]]
_Visit = tuple[list[_Asked], asyncio.AbstractEventLoop, asyncio.Future[None]]

TOGETHER = 32
"""So many are done in one visit at most: the first of them waits for the last."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one piece of work: its result, or what it raised."""

    result: Any = None
    error: BaseException | None = None


class SqliteThreads:
    """A thread that writes and one that reads, each with a connection of its own.

    Whoever comes while a thread is busy waits, and all who wait are served by its next visit, in their order: one
    hand-over to the thread and back, one transaction, one commit. Each who writes has a savepoint, so that an error
    undoes its own work only, and is told of its result after the commit. `writer` is held during visits that write.
    """

    def __init__(self, engine: sa.Engine, writer: AbstractAsyncContextManager[Any]) -> None:
        self._engine = engine
        self._for_writing = _Kept(engine.execution_options(himalia_write=True))
        self._for_reading = _Kept(engine)
        self._writer = _Queue("sqlite-writer", self._write, writer)
        self._reader = _Queue("sqlite-reader", self._read, nullcontext())

    async def write(self, work: Callable[[Session], T]) -> T:
        """In a write transaction, committed when it returns, undone when it raises."""
        result: T = await self._writer.ask(work)
        return result

    async def read(self, work: Callable[[Session], T]) -> T:
        """On a snapshot no older than the question."""
        result: T = await self._reader.ask(work)
        return result

    def close(self) -> None:
        """Wait for what is being done, then close both connections."""
        self._writer.close()
        self._reader.close()
        self._for_writing.close()
        self._for_reading.close()
        self._engine.dispose()

    def _write(self, works: list[Work]) -> list[Outcome]:
        if len(works) == 1:
            return [_tried(self._write_alone, works[0])]
        outcomes: list[Outcome] = []
        try:
            with self._for_writing.visited() as kept:
                for work in works:
                    outcomes.append(_tried(_write_beside, kept, work))
                    # A full disk and the like end SQLite's whole transaction, and with it what others wrote.
                    if not kept.driver.in_transaction:
                        raise _why(outcomes[-1].error)
        except BaseException as error:  # nothing was written: each who was not refused before is told why
            outcomes += [Outcome()] * (len(works) - len(outcomes))
            return [one if one.error else Outcome(error=error) for one in outcomes]
        return outcomes

    def _write_alone(self, work: Work) -> Any:
        with self._for_writing.visited() as kept:
            session = kept.session()
            result = work(session)
            session.flush()
            return result

    def _read(self, works: list[Work]) -> list[Outcome]:
        with self._for_reading.visited() as kept:
            return [_tried(_read_beside, kept, work) for work in works]


class _Kept:
    """One thread's connection with a session, kept from visit to visit: making both takes longer than what most want.

    After an error it is another connection.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.driver: Any = None
        self._engine = engine
        self._connection: Connection | None = None
        self._session: Session | None = None

    @contextmanager
    def visited(self) -> Iterator[Self]:
        """A transaction, committed at the end of the block and undone when it raises."""
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                self.driver = self._connection.connection.dbapi_connection
                yield self
                self._rest()
        except BaseException:
            self.close()
            raise

    def session(self) -> Session:
        """One that knows no objects, for one piece of work after the other."""
        if self._session is None:
            # Without a transaction of its own: it neither ends nor undoes what others wrote.
            self._session = Session(
                self._connection,
                expire_on_commit=False,
                join_transaction_mode="rollback_only",
                info={DRIVER: self.driver},
            )
        self._session.expunge_all()  # nobody gets the objects of another
        return self._session

    def end(self) -> None:
        """The next session is another one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def close(self) -> None:
        """Give the connection back."""
        self.end()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rest(self) -> None:
        if self._session is None:
            return
        self._session.expunge_all()
        if self._session.in_transaction():  # hardly any: what is prepared goes past it
            self.end()


def _write_beside(kept: _Kept, work: Work) -> Any:
    # Said to the driver itself: SQLAlchemy's way to a savepoint and back, with a session for each, takes as long as
    # four statements, and a herd of starts makes a thousand of them.
    session, driver = kept.session(), kept.driver
    driver.execute("SAVEPOINT beside")
    try:
        result = work(session)
        session.flush()
    except BaseException:
        kept.end()
        if driver.in_transaction:
            driver.execute("ROLLBACK TO beside")
            driver.execute("RELEASE beside")
        raise
    driver.execute("RELEASE beside")
    return result


def _read_beside(kept: _Kept, work: Work) -> Any:
    try:
        return work(kept.session())
    except BaseException:
        kept.end()
        raise


def _why(error: BaseException | None) -> BaseException:
    """The database's first complaint: there is nothing any more to which the session could go back, and it says so."""
    found, told = error or RuntimeError("the transaction ended before its commit"), error
    while told is not None:
        found, told = told if isinstance(told, sa.exc.SQLAlchemyError) else found, told.__context__
    return found


def _tried(do: Callable[..., Any], *args: Any) -> Outcome:
    try:
        return Outcome(do(*args))
    except BaseException as error:  # whoever asked gets it
        return Outcome(error=error)


class _Queue:
    """Those who wait for one thread. `do` runs in it and says what became of each."""

    def __init__(
        self,
        name: str,
        do: Callable[[list[Work]], list[Outcome]],
        turn: AbstractAsyncContextManager[Any],
    ) -> None:
        self._name, self._do, self._turn = name, do, turn
        self._waiting: list[_Asked] = []
        self._serving: asyncio.Task[None] | None = None
        self._thread: Thread | None = None
        self._visits: SimpleQueue[_Visit | None] = SimpleQueue()
        self._closed = False

    async def ask(self, work: Work) -> Any:
        """The result of `work(session)`. Who is cancelled while it is being done does not undo it."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, answer))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        return await answer

    async def _serve(self) -> None:
        try:
            while self._waiting:
                async with self._turn:
                    served, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
                    await self._visit([one for one in served if not one[1].done()])
        finally:
            self._serving = None

    async def _visit(self, served: list[_Asked]) -> None:
        if not served:
            return
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        try:
            self._start_thread()
            # Not an executor: its future, the loop's future of that, their locks and call-backs take four times as long
            # on the loop, and each start comes here five times.
            self._visits.put((served, loop, over))
            await over
        except asyncio.CancelledError:  # the event loop ends
            for _, answer in served:
                answer.cancel()
            raise
        except Exception as error:  # there is no thread
            _give(served, [Outcome(error=error)] * len(served))

    def _start_thread(self) -> None:
        if self._closed:
            raise RuntimeError("the database is closed")
        if self._thread is None:
            # A daemon: a process that ends without closing its database does not wait for a thread that has no end.
            thread = Thread(target=self._work, name=self._name, daemon=True)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        while (visit := self._visits.get()) is not None:
            served, loop, over = visit
            try:
                outcomes = self._do([work for work, _ in served])
            except BaseException as error:  # all who asked get it
                outcomes = [Outcome(error=error)] * len(served)
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(_give, served, outcomes, over)
            del visit, served, outcomes  # until the next visit, which may be long in coming

    def close(self) -> None:
        """Wait for the visit under way."""
        self._closed = True
        if self._thread is not None:
            self._visits.put(None)
            self._thread.join()


def _give(served: list[_Asked], outcomes: list[Outcome], over: asyncio.Future[None] | None = None) -> None:
    for (_, answer), outcome in zip(served, outcomes, strict=True):
        if answer.done():
            continue
        if outcome.error is None:
            answer.set_result(outcome.result)
        else:
            answer.set_exception(outcome.error)
    if over is not None and not over.done():
        over.set_result(None)
