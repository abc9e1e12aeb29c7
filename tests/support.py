"""Waiting for conditions: what every test uses instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T | Awaitable[T]], *, within_s: float = 30, what: str = "") -> T:
    """The first true value of `condition()`, which may be async; AssertionError after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    pause = 0.005
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what or inspect.getsource(condition).strip()}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)
