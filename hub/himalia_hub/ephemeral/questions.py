"""Which commit a ref names now: asked once for all who clicked before the question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from himalia_hub import clock
from himalia_hub.ephemeral.sources import Source

KEPT = timedelta(minutes=1)
"""Who clicked before a question and has not come to its answer after this time asks anew."""


@dataclass(frozen=True, slots=True)
class _Question:
    asked: datetime
    answer: asyncio.Task[str]

    def serves(self, clicked: datetime) -> bool:
        """An answer under way serves everybody; one that was given, whoever clicked before it was asked for."""
        return not self.answer.done() or self.asked >= clicked


class Questions:
    """The questions under way, and what was answered just now. `ask` gives the commit of a source."""

    def __init__(self, ask: Callable[[Source], Coroutine[Any, Any, str]]) -> None:
        self._ask = ask
        self._asked: dict[tuple[str, str], _Question] = {}

    def answered(self, source: Source, clicked: datetime) -> bool:
        """Whether `commit` has its answer, or its failure, at once."""
        known = self._asked.get((source.url, source.ref))
        return known is not None and known.answer.done() and known.serves(clicked)

    async def commit(self, source: Source, clicked: datetime) -> str:
        """The commit that the source's ref named at some moment since the click; what `ask` raises."""
        known = self._asked.get((source.url, source.ref))
        if known is None or not known.serves(clicked):
            now = clock.now()
            self._asked = {
                key: one
                for key, one in self._asked.items()
                if not one.answer.done() or one.asked > now - KEPT
            }
            known = _Question(now, asyncio.create_task(self._ask(source)))
            self._asked[source.url, source.ref] = known
        return await asyncio.shield(known.answer)

    def drop(self) -> list[asyncio.Task[str]]:
        """Forget everything and end what is under way; the tasks that are to be waited for."""
        tasks = [one.answer for one in self._asked.values()]
        self._asked.clear()
        for task in tasks:
            task.cancel()
        return tasks
