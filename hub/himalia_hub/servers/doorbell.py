"""Wake-ups. A ring only shortens a wait: what it rings for is in the rows, so a lost one costs a little time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Self

from himalia_hub.servers.models import Server


class Doorbell:
    """Two bells in one process: one for the workers, one per server for those who watch its story, or its end."""

    def __init__(self) -> None:
        self._work = asyncio.Event()
        self._watchers: defaultdict[int, set[Watch]] = defaultdict(set)
        self._waiters: defaultdict[int, set[Watch]] = defaultdict(set)
        self._listeners: set[Callable[[int | None], None]] = set()

    def listen(self, hear: Callable[[int | None], None]) -> None:
        """Call `hear` with the id of every server that something happens to; with None when it may be any."""
        self._listeners.add(hear)

    def unlisten(self, hear: Callable[[int | None], None]) -> None:
        """Call it no longer."""
        self._listeners.discard(hear)

    def ring(self, server_id: int) -> None:
        """Something is wished or has changed for this server."""
        self._work.set()
        self.settle(server_id)

    def ring_all(self) -> None:
        """Anything may have happened, to any server: rings may have been lost."""
        self._work.set()
        for server_id in {*self._watchers, *self._waiters}:
            self.settle(server_id)
        for hear in self._listeners:
            hear(None)

    def tell(self, server_id: int) -> None:
        """A line was added to this server's story; only those who read it care."""
        for watch in self._watchers.get(server_id, ()):
            watch.wake()
        for hear in self._listeners:
            hear(server_id)

    def settle(self, server_id: int, row: Server | None = None) -> None:
        """This server's story came to an end, or may have. `row` is as it was committed with the end."""
        self.tell(server_id)
        for watch in self._waiters.get(server_id, ()):
            watch.row = row or watch.row
            watch.wake()

    def is_awaited(self, server_id: int) -> bool:
        """Whether anybody here waits for the end of this server's story."""
        return server_id in self._waiters

    async def wait(self, *, at_most_s: float) -> None:
        """Until a ring, or the time is over."""
        try:
            async with asyncio.timeout(max(at_most_s, 0)):
                await self._work.wait()
        except TimeoutError:
            return
        finally:
            self._work.clear()

    def watch(self, server_id: int, *, only_the_end: bool = False) -> Watch:
        """Follow one server: `with doorbell.watch(id) as watch: … await watch.wait(1)`.

        `only_the_end` is not woken by each line of the story: a request that waits for a start would read the row
        thrice in vain, in the very milliseconds in which the start needs the processor.
        """
        return Watch(self._waiters if only_the_end else self._watchers, server_id)


class Watch:
    """A subscription to one server. What happens between two waits makes the next one return at once.

    `row` is the last that came with a ring, to look at: of a crowd that starts, each would read its own again.
    """

    def __init__(self, watchers: defaultdict[int, set[Watch]], server_id: int) -> None:
        self._watchers, self._server_id, self._event = watchers, server_id, asyncio.Event()
        self.row: Server | None = None

    def __enter__(self) -> Self:
        self._watchers[self._server_id].add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._watchers[self._server_id].discard(self)
        if not self._watchers[self._server_id]:
            del self._watchers[self._server_id]

    def wake(self) -> None:
        """Something happened."""
        self._event.set()

    async def wait(self, at_most_s: float) -> bool:
        """Until something happened to the server; False when the time is over before."""
        try:
            async with asyncio.timeout(max(at_most_s, 0)):
                return await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._event.clear()
