"""Wake-ups. A ring only shortens a wait: what it rings for is in the rows, so a lost one costs a little time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Self


class Doorbell:
    """Two bells in one process: one for the workers, one per server for those who watch its story."""

    def __init__(self) -> None:
        self._work = asyncio.Event()
        self._watchers: defaultdict[int, set[asyncio.Event]] = defaultdict(set)

    def ring(self, server_id: int) -> None:
        """Something is wished or has changed for this server."""
        self._work.set()
        self.tell(server_id)

    def ring_all(self) -> None:
        """Anything may have happened, to any server: rings may have been lost."""
        self._work.set()
        for server_id in list(self._watchers):
            self.tell(server_id)

    def tell(self, server_id: int) -> None:
        """Something was recorded for this server; only its watchers care."""
        for event in self._watchers.get(server_id, ()):
            event.set()

    async def wait(self, *, at_most_s: float) -> None:
        """Until a ring, or the time is over."""
        try:
            async with asyncio.timeout(max(at_most_s, 0)):
                await self._work.wait()
        except TimeoutError:
            return
        finally:
            self._work.clear()

    def watch(self, server_id: int) -> Watch:
        """Follow one server: `with doorbell.watch(id) as watch: … await watch.wait(1)`."""
        return Watch(self._watchers, server_id)


class Watch:
    """A subscription to one server. What happens between two waits makes the next one return at once."""

    def __init__(self, watchers: defaultdict[int, set[asyncio.Event]], server_id: int) -> None:
        self._watchers, self._server_id, self._event = watchers, server_id, asyncio.Event()

    def __enter__(self) -> Self:
        self._watchers[self._server_id].add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._watchers[self._server_id].discard(self._event)
        if not self._watchers[self._server_id]:
            del self._watchers[self._server_id]

    async def wait(self, at_most_s: float) -> None:
        """Until something happened to the server, or the time is over."""
        try:
            async with asyncio.timeout(max(at_most_s, 0)):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self._event.clear()
