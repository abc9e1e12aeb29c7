"""A kernel of the default kind, started before anybody asks: the next notebook need not wait for it.

It is on no list and counts for nothing until it is taken. There is at most one, only once a page of a front end was
opened, only for a while, and only the working directory that it was started in gets it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from himalia_singleuser.errors import ApiError
from himalia_singleuser.kernels.lifecycle import Kernel
from himalia_singleuser.kernels.specs import KernelSpec

log = structlog.get_logger(__name__)

PAUSE_S = 3.0
"""After a kernel has answered: its first cells come before the next spare one."""

Begin = Callable[[Path, dict[str, str]], Awaitable[Kernel | None]]


class Spare:
    """The spare kernel of one server. `begin` starts one in a folder, unlisted; None when there shall be none."""

    def __init__(self, begin: Begin, *, idle_s: float, ready_s: float) -> None:
        self._begin = begin
        self._idle_s = idle_s
        self._ready_s = ready_s
        self._is_wanted = False
        self._env: dict[str, str] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._others: set[asyncio.Task[None]] = set()
        self.kernel: Kernel | None = None

    def page_opened(self, folder: Path) -> None:
        """Somebody looks at a front end: a notebook of this folder may come next."""
        self._is_wanted = self._idle_s > 0
        self._keep_one(folder, None)

    def kernel_started(self, kernel: Kernel) -> None:
        """Another one of its folder may be asked for."""
        self._keep_one(kernel.cwd, kernel)

    async def take(self, spec: KernelSpec, folder: Path, env: dict[str, str]) -> Kernel | None:
        """The spare kernel, if it is just what would be started now. In any case there is none afterwards."""
        kernel = await self._release()
        if kernel is None or kernel.gone:
            return None
        if kernel.spec != spec or kernel.cwd != folder:
            # What is asked for now should not share the processor with it.
            self._own(kernel.stop())
            return None
        self._env.update(env)
        kernel.state.touch()
        if env:
            self._own(self._tell(kernel, env))
        return kernel

    async def close(self) -> None:
        """It is gone on return."""
        self._is_wanted = False
        kernel = await self._release()
        if kernel is not None:
            await kernel.stop()
        await asyncio.gather(*self._others, return_exceptions=True)

    def _keep_one(self, folder: Path, after: Kernel | None) -> None:
        if self._is_wanted and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(folder, after))

    async def _keep(self, folder: Path, after: Kernel | None) -> None:
        if after is not None:
            await after.wait_ready(self._ready_s)
            await asyncio.sleep(PAUSE_S)
        # Apart from this task, which may be cancelled: a process that is being made must not be lost.
        self._starting = asyncio.create_task(self._start(folder))
        await asyncio.shield(self._starting)
        if self.kernel is not None and await self.kernel.wait_ready(self._ready_s):
            log.info("kernel.spare_ready", kernel=self.kernel.id)
        await asyncio.sleep(self._idle_s)
        kernel, self.kernel, self._keeping = self.kernel, None, None
        if kernel is not None:
            self._own(kernel.stop())

    async def _start(self, folder: Path) -> None:
        self._env = {}
        try:
            self.kernel = await self._begin(folder, self._env)
        except (ApiError, OSError) as error:
            log.warning("kernel.no_spare", why=str(error))

    async def _release(self) -> Kernel | None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
        if self._starting is not None:
            await self._starting
        kernel, self.kernel = self.kernel, None
        return kernel

    async def _tell(self, kernel: Kernel, env: dict[str, str]) -> None:
        """Give it the environment that it would have been started with. It is a Python kernel (`KernelPool`)."""
        code = "".join(
            f"__import__('os').environ[{json.dumps(name)}] = {text!a}\n" for name, text in env.items()
        )
        content = {"code": code, "silent": True, "store_history": False, "allow_stdin": False}
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ready_s):
                await kernel.relay.ask("shell", "execute_request", content)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)
