"""What was worked out from rows, kept until anything is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from himalia_hub.db.engine import Database

V = TypeVar("V")

MOST = 10_000
"""Values that are kept; beyond that they are made anew each time, until the next commit clears all."""


class Memo:
    """Answers a question from memory when the database is as it was when it was last asked.

    Only for what follows from rows alone: a value that also depends on the time of day must be judged by its taker.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._at: Hashable | None = None
        self._kept: dict[Hashable, object] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[V]]) -> V:
        """What `make()` gives, from memory when it can be. None is never kept, nor is what it raises."""
        at = await self._db.revision.now()
        if at is None:
            return await make()
        if at != self._at:
            self._kept.clear()
            self._at = at
        elif key in self._kept:
            return self._kept[key]  # type: ignore[return-value]
        value = await make()
        # `at` is older than what was read, and nothing older may be kept for a newer state.
        if at == self._at and value is not None and len(self._kept) < MOST:
            self._kept[key] = value
        return value
