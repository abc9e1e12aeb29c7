"""Kernels that outlive this server should it be killed, and those of a killed one taken back: joined to the app."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from himalia_singleuser.keeper.client import KeptLauncher
from himalia_singleuser.keeper.folder import KernelFolder, key_of
from himalia_singleuser.keeper.follow import Follower
from himalia_singleuser.keeper.notes import Notes
from himalia_singleuser.keeper.restore import take_back
from himalia_singleuser.kernels.lifecycle import Kernel
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.keys import SETTINGS
from himalia_singleuser.recorder.recorder import RECORDER
from himalia_singleuser.sessions.store import SESSIONS

log = structlog.get_logger(__name__)

EVERY_S = 2.0
"""Between two notes while something goes on. What is published meanwhile, the keeper has."""
SOON_S = 0.05
"""After a kernel or a session came, went or changed."""
AT_ONCE_S = 0.02
HEARD_WAIT_S = 0.2
LOOK_S, HELD_UP_S = 0.25, 0.25
"""While a cell runs: between two looks at the clock, and how late one must be for messages to have been dropped."""
SHARE = 20
"""Notes take at most one part in so many of the time."""


class Keeping:
    """The witness of this server's kernels."""

    def __init__(self, app: web.Application, keep_s: float) -> None:
        settings = app[SETTINGS]
        self._app = app
        self._runtime_dir = settings.runtime_dir
        self._key = key_of(settings.root_dir, settings.base_url)
        self._folder: KernelFolder | None = None
        self._notes: Notes | None = None
        self._dirty = False
        self._soon = asyncio.Event()
        self._runs = asyncio.Event()
        self._followers: dict[str, Follower] = {}
        self._cost_s = 0.0
        # Behind a hub others count, too, and they cannot see whether a kernel computes.
        most_s = math.inf if settings.hub is None else keep_s
        self.launcher = KeptLauncher(
            (keep_s, most_s),
            settings.environ,
            opened=self._open,
            changed=self.changed,
            renewed=self._renewed,
            closed=self._remove,
        )
        self._tasks: list[asyncio.Task[None]] = []

    # -- the witness --------------------------------------------------------------------------------------

    def opened(self, kernel_id: str, session_id: str, parts: Sequence[bytes]) -> None:
        """A session is about to ask this kernel to run a cell."""
        if self._notes is not None:
            self._notes.opened(kernel_id, session_id, parts)
            self._dirty = True
            self._runs.set()

    def shown(self, kernel_id: str, frames: Sequence[bytes]) -> None:
        """The browsers have been given all up to this message."""
        if self._notes is not None:
            self._notes.shown(kernel_id, frames)
            self._dirty = True

    def changed(self) -> None:
        """Write it down soon."""
        self._dirty = True
        self._soon.set()

    def decided(self) -> None:
        """A client's save settled something: the next server must not bring it up again."""
        if self._cost_s < AT_ONCE_S:
            self.write()
        else:
            self.changed()

    # -- the life of it -----------------------------------------------------------------------------------

    async def _open(self) -> Path:
        """Called before the first kernel starts: its folder is held by this server from now on."""
        path = self._app[KERNELS].folder
        assert path is not None
        self._folder = await asyncio.to_thread(KernelFolder.hold, path, self._runtime_dir, self._key)
        self._notes = Notes(self._folder)
        return path

    def _renewed(self) -> None:
        for kernel in self._app[KERNELS].all():
            self._tasks.append(asyncio.create_task(self._have_heard(kernel)))

    async def _have_heard(self, kernel: Kernel) -> None:
        """Have a kernel publish something until the new keeper hears it, and says so: then this server writes.

        The keeper's subscription travels to the kernel on its own; what is published before it is there, is lost to it.
        """
        while True:
            await kernel.relay.catch_up()
            if await self.launcher.is_heard(kernel.id, within_s=HEARD_WAIT_S):
                return

    async def restore(self) -> None:
        """Take back what a killed server of the same root and URL left; what cannot be used any more is removed."""
        for folder in await asyncio.to_thread(self._left_behind):
            if folder.is_elsewhere() or self._folder is not None:
                folder.release()
                continue
            state = folder.read()
            kept = await self.launcher.take_over(folder.path)
            if state is None or not state["kernels"]:
                if kept is not None:
                    await self.launcher.dismiss()
                await asyncio.to_thread(folder.remove, self._runtime_dir)
                continue
            self._folder, self._notes = folder, Notes(folder, begin=state["requests"])
            self._tasks = await take_back(
                folder,
                state,
                kept,
                launcher=self.launcher,
                pool=self._app[KERNELS],
                sessions=self._app[SESSIONS],
                recorder=self._app[RECORDER],
            )
            self.write()
            if kept is None:
                await self.launcher.renew()

    def _left_behind(self) -> list[KernelFolder]:
        return list(KernelFolder.left_behind(self._runtime_dir, self._key))

    async def write_forever(self) -> None:
        """Write notes whenever something has changed, until cancelled."""
        pause = EVERY_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._soon.wait()
            await asyncio.sleep(SOON_S)
            if self._dirty:
                self.write()
            pause = max(EVERY_S, SHARE * self._cost_s)

    def write(self) -> None:
        """Write notes now. What cannot be written now is tried again with the next change."""
        self._soon.clear()
        if self._notes is None:
            return
        self._follow()
        begun = time.thread_time()  # what others do to the machine meanwhile is no cost of this
        try:
            marks = self._notes.write(self._app[KERNELS], self._app[SESSIONS], self._app[RECORDER])
        except OSError as error:
            log.warning("keeper.notes_not_written", why=error.strerror)
            return
        self._dirty = False
        self._cost_s = time.thread_time() - begun
        for kernel_id, mark in marks.items():
            if mark:
                self.launcher.trim(kernel_id, mark)
        for kernel_id in set(self.launcher.gone()) - set(marks):
            self.launcher.forget(kernel_id)
            self._notes.forget(kernel_id)

    def _follow(self) -> None:
        """Have the live messages of each kernel looked at that is not catching up yet."""
        assert self._folder is not None
        kernels = {kernel.id: kernel.relay for kernel in self._app[KERNELS].all()}
        for kernel_id in set(self._followers) - set(kernels):
            del self._followers[kernel_id]
        for kernel_id, relay in kernels.items():
            if relay.divert is None:
                folder = str(self._folder.path)
                self._followers[kernel_id] = Follower(relay, folder, kernel_id, self._own)

    async def watch_forever(self) -> None:
        """Notice, while cells run, that this process was stopped or got no processor for long, until cancelled."""
        while True:
            await self._runs.wait()
            before = time.monotonic()
            await asyncio.sleep(LOOK_S)
            if time.monotonic() - before > LOOK_S + HELD_UP_S:
                for follower in self._followers.values():
                    follower.was_held_up()
            if not any(kernel.relay.requests.all() for kernel in self._app[KERNELS].all()):
                self._runs.clear()

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(work))

    async def close(self) -> None:
        """This server is being stopped: nothing is kept."""
        self.launcher.stopping()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _remove(self) -> None:
        """All kernels have ended."""
        if self._notes is not None:
            self._notes.close()
            self._notes = None
        if self._folder is not None:
            self._folder.remove(self._runtime_dir)


async def keeping_lifetime(app: web.Application) -> AsyncIterator[None]:
    """Needs recorder, kernels and sessions; it ends before they do, and what is left then goes with the pool."""
    keep_s = app[SETTINGS].keep_kernels_s
    if keep_s <= 0:
        yield
        return
    keeping = Keeping(app, keep_s)
    pool = app[KERNELS]
    pool.launcher, pool.witness = keeping.launcher, keeping
    app[SESSIONS].changed, app[RECORDER].changed = keeping.changed, keeping.decided
    await keeping.restore()
    tasks = [asyncio.create_task(keeping.write_forever()), asyncio.create_task(keeping.watch_forever())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await keeping.close()


routes: list[web.RouteDef] = []
lifetimes = [keeping_lifetime]
