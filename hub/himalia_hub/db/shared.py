"""Twenty who ask for the same thing at the same moment: one asks, the others wait for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar, cast

V = TypeVar("V")

_NOT_MADE = object()


class Shared:
    """Values that are being made just now, under keys that name them exactly. Nothing is kept once it is made."""

    def __init__(self) -> None:
        self._making: dict[Hashable, asyncio.Future[Any]] = {}

    async def one(self, key: Hashable, make: Callable[[], Awaitable[V]]) -> V:
        """What `make()` gives. Whoever comes while another makes it gets the same; what that one raises, or that it is
        cancelled, is its own affair: one of those who wait then makes it.
        """
        while (others := self._making.get(key)) is not None:
            found = await asyncio.shield(others)
            if found is not _NOT_MADE:
                return cast("V", found)
        mine = self._making[key] = asyncio.get_running_loop().create_future()
        try:
            value = await make()
            mine.set_result(value)
            return value
        finally:
            del self._making[key]
            if not mine.done():
                mine.set_result(_NOT_MADE)
