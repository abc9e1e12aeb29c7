"""What happens to containers: the engine's events as they come, corrected by full lists.

Events are lost when a connection breaks or the engine restarts, and nobody says so. So whatever the events say, all
containers of this hub are listed from time to time, and every difference is told.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from himalia_spawner.containers import asked
from himalia_spawner.containers.engine import Engine
from himalia_spawner.docker.container import Place
from himalia_spawner.errors import BackendGone

log = structlog.get_logger()

TELLING = ("die", "oom", "destroy", "start", "pause", "unpause")
RETRY_S = 1.0


class Watcher:
    """Tells names into a queue, from events and from lists."""

    def __init__(self, engine: Engine, place: Place, *, resync_s: float) -> None:
        self._engine, self._place, self._resync_s = engine, place, resync_s
        self._known: dict[str, str] = {}
        self.changed: asyncio.Queue[str] = asyncio.Queue()
        self.out_of_memory: set[str] = set()
        self._closed = threading.Event()
        self._stream: Any = None
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """Begin to hear events; a thread of its own, for the stream blocks."""
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(
                target=self._hear, args=(loop,), name="docker-events", daemon=True
            )
            self._thread.start()

    async def resync(self) -> None:
        """List, tell the differences, sleep, again; until cancelled."""
        while True:
            with suppress(BackendGone):
                await self.compare()
            await asyncio.sleep(self._resync_s)

    async def compare(self) -> None:
        """One full list; names whose state is another than at the last list are told."""
        wanted = {"label": f"{asked.HUB}={self._place.hub}"}
        found = await self._engine.see(lambda client: client.containers(all=True, filters=wanted))
        states = {one["Labels"][asked.NAME]: f"{one['Id']} {one['State']}" for one in found}
        for name in {*states, *self._known}:
            if states.get(name) != self._known.get(name):
                self.changed.put_nowait(name)
        self._known = states

    def close(self) -> None:
        """End the thread's stream; it ends by itself then."""
        self._closed.set()
        self._close_stream()

    def _close_stream(self) -> None:
        if self._stream is not None:
            with suppress(Exception):  # closing under a reader raises whatever the transport likes
                self._stream.close()

    def _hear(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closed.is_set():
            try:
                client = self._engine.stream()
            except BackendGone:
                self._closed.wait(RETRY_S)
                continue
            try:
                wanted = {"type": "container", "label": f"{asked.HUB}={self._place.hub}"}
                self._stream = client.events(decode=True, filters=wanted)
                for event in self._stream:
                    self._tell(loop, event)
            except Exception as error:  # the stream of an engine that ends may break in any way
                log.debug("docker.events_broken", error=type(error).__name__)
            finally:
                self._close_stream()  # an engine that ends leaves its side of the connection to us
                client.close()
            self._closed.wait(RETRY_S)

    def _tell(self, loop: asyncio.AbstractEventLoop, event: dict[str, Any]) -> None:
        action = str(event.get("Action", ""))
        name = ((event.get("Actor") or {}).get("Attributes") or {}).get(asked.NAME)
        if action not in TELLING or not name:
            return
        note: Callable[[str], None] = self.out_of_memory.add if action == "oom" else lambda _name: None
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(note, name)
            loop.call_soon_threadsafe(self.changed.put_nowait, name)
