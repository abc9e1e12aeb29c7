"""Pauses of background work: between its turns, whose length is a setting that may change while the hub runs, and
between the bites of one turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable


class Pace:
    """What a new configuration shortens or lengthens at once, rather than after the pause that is under way."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Every pause that is under way looks at its length again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def pause(self, length_s: Callable[[], float]) -> None:
        """Until so many seconds have passed since the call, as is set meanwhile; `math.inf`: until that changes."""
        began = time.monotonic()
        while True:
            changed, until = self._changed, began + length_s()
            left = until - time.monotonic()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(None if math.isinf(left) else left):
                    await changed.wait()
            except TimeoutError:
                return


class Bites:
    """Rests between the bites of a long piece of work, so that it is spread over about `over_s` (0: no rests).

    Work on 10,000 rows in one go, however often it lets others run, makes everybody slow for as long as it lasts; what
    is spread nobody feels. Once `hurry` is set there are no more rests.
    """

    def __init__(self, over_s: float = 0, hurry: asyncio.Event | None = None) -> None:
        self.over_s = over_s
        self.rested_s = 0.0
        self._hurry = hurry or asyncio.Event()

    async def rest(self, number: int) -> None:
        """After one of so many bites."""
        if self.over_s and not self._hurry.is_set():
            began = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.over_s / number):
                    await self._hurry.wait()
            self.rested_s += time.monotonic() - began
