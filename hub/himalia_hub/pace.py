"""Pauses of background work, whose length is a setting that may change while the hub runs."""

from __future__ import annotations

import asyncio
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
