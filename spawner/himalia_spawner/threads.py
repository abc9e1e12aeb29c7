"""Threads for blocking work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


def running_threads(number: int, name: str) -> ThreadPoolExecutor:
    """An executor whose threads run already.

    One that makes them as it goes fails, on a machine that allows no more, the call that needs one, and does that
    call's work in another thread all the same.
    """
    threads = ThreadPoolExecutor(number, thread_name_prefix=name)
    together = Barrier(number)
    for _ in range(number):
        threads.submit(together.wait)
    return threads
