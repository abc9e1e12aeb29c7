"""Threads for blocking work: results, errors, and their end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from himalia_spawner.threads import Threads


async def test_work_gives_its_result_or_its_error_and_never_runs_on_the_loop() -> None:
    threads = Threads(2, "test")
    try:
        assert await threads.run(divmod, 7, 2) == (3, 1)
        assert await threads.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 1, 0)
        assert await threads.run(len, "abc") == 3, "an error ends no thread"
    finally:
        threads.close()


async def test_after_the_end_nothing_begins_and_who_waited_for_a_thread_is_cancelled() -> None:
    threads, begun, free = Threads(1, "test"), threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return free.wait(20)

    held, waiting = (asyncio.create_task(threads.run(work)) for work in (hold, threading.get_ident))
    while not begun.is_set():
        await asyncio.sleep(0)

    threads.close()
    free.set()

    assert await held, "what was being done comes to its end"
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RuntimeError):
        await threads.run(threading.get_ident)
