"""What was worked out from rows, kept until anything is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from himalia_hub.db.engine import Database
from himalia_hub.db.shared import Shared

V = TypeVar("V")

MOST_BYTES = 16 * 2**20
ABOUT_BYTES = 2048
"""What a value that is no text and says no `weight` is taken to weigh, its key included."""


class Memo:
    """Answers a question from memory when the database is as it was when it was last asked.

    Only for what follows from rows alone: a value that also depends on the time of day must be judged by its taker.
    """

    def __init__(self, db: Database) -> None:
        self.db = db
        self._at: Hashable | None = None
        self._kept: dict[Hashable, object] = {}
        self._making = Shared()
        self._room = MOST_BYTES

    def forget(self) -> None:
        """Keep nothing of what was: something changed that is no row."""
        self._at = None
        self._kept.clear()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[V]]) -> V:
        """What `make()` gives, from memory when it can be. None is never kept, nor is what it raises.

        Whoever asks while it is being made for the same state waits for that. Beyond MOST_BYTES values are made anew
        each time, until the next commit clears all: whoever asks for ever other things must not fill the memory.
        """
        at = await self.db.revision.now()
        if at is None:
            return await make()
        if at != self._at:
            self._kept.clear()
            self._at, self._room = at, MOST_BYTES
        elif key in self._kept:
            return self._kept[key]  # type: ignore[return-value]
        value = await self._making.one((at, key), make)
        # `at` is older than what was read, and nothing older may be kept for a newer state.
        weight = ABOUT_BYTES + (len(value) if isinstance(value, bytes) else getattr(value, "weight", 0))
        if at == self._at and value is not None and weight <= self._room and key not in self._kept:
            self._kept[key] = value
            self._room -= weight
        return value
