"""Threads for blocking work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
_Work = tuple[Callable[..., Any], tuple[object, ...], asyncio.AbstractEventLoop, asyncio.Future[Any]]


class Threads:
    """So many threads, that run from the beginning: where the machine allows no more, no call fails for want of one.

    Not an executor: its future, and the loop's of that, take the loop three times as long as this, at each start.
    """

    def __init__(self, number: int, name: str) -> None:
        self._works: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads = [Thread(target=self._serve, name=f"{name}_{n}", daemon=True) for n in range(number)]
        self._closed = False
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """`function(*args)` in one of them. Who is cancelled meanwhile does not stop it."""
        if self._closed:
            raise RuntimeError("the spawner is closed")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._works.put((function, args, loop, answer))
        return await answer

    def close(self) -> None:
        """Begin nothing any more; what is being done ends by itself. Whoever waits for a thread is cancelled."""
        self._closed = True
        with suppress(Empty):
            while (waiting := self._works.get_nowait()) is not None:
                waiting[3].cancel()
        for _ in self._threads:
            self._works.put(None)

    def _serve(self) -> None:
        while (work := self._works.get()) is not None:
            function, args, loop, answer = work
            result, failed = None, None
            try:
                result = function(*args)
            except BaseException as error:  # whoever asked gets it
                failed = error
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(_give, answer, result, failed)
            del work, function, args, answer, result, failed  # until the next, which may be long in coming


def _give(answer: asyncio.Future[Any], result: Any, failed: BaseException | None) -> None:
    if answer.done():
        return
    if failed is not None:
        answer.set_exception(failed)
    else:
        answer.set_result(result)
