"""All kernels of this server: found by id, started by name, counted, gone when the server goes."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from himalia_singleuser.errors import ApiError, BadRequest
from himalia_singleuser.kernels import specs
from himalia_singleuser.kernels.channels import Context
from himalia_singleuser.kernels.connection import private_folder
from himalia_singleuser.kernels.errors import KernelExists, NoSuchKernel
from himalia_singleuser.kernels.lifecycle import Kernel, Surroundings
from himalia_singleuser.kernels.options import KERNEL_OPTIONS, KernelOptions
from himalia_singleuser.kernels.process import ChildLauncher, Launcher
from himalia_singleuser.kernels.requests import NoTap, TapFor
from himalia_singleuser.kernels.spare import Spare
from himalia_singleuser.kernels.witness import NoWitness, Witness
from himalia_singleuser.keys import ACTIVITY, EVENTS, SETTINGS

log = structlog.get_logger(__name__)

ID = re.compile(r"\w+-\w+-\w+-\w+-\w+")
ACTIONS_SCHEMA = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"


class KernelPool:
    """The kernels that run. Nothing is made on disk or in ZMQ before the first one."""

    def __init__(
        self,
        *,
        root_dir: Path,
        runtime_dir: Path,
        environ: Mapping[str, str],
        options: KernelOptions,
        emit: Callable[[str, dict[str, Any]], None] = lambda _schema, _data: None,
        on_activity: Callable[..., None] = lambda _: None,
        tap_for: TapFor = lambda _: NoTap(),
    ) -> None:
        self.launcher: Launcher = ChildLauncher()
        """Set before the first kernel."""
        self.witness: Witness = NoWitness()
        self.options = options
        self._root_dir = root_dir
        self._runtime_dir = runtime_dir
        self._environ = environ
        self._emit = emit
        self._on_activity = on_activity
        self._tap_for = tap_for
        self._context = Context()
        self._around: Surroundings | None = None
        self._kernels: dict[str, Kernel] = {}
        self.spare = Spare(self._begin_spare, idle_s=options.spare_idle_s, ready_s=options.ready_timeout_s)

    def kernel_count(self) -> int:
        """Kernels that run."""
        return len(self._kernels)

    def connection_count(self) -> int:
        """Open channel sockets over all kernels."""
        return sum(kernel.relay.clients for kernel in self._kernels.values())

    def all(self) -> list[Kernel]:
        """Every kernel, the oldest first."""
        return list(self._kernels.values())

    def get(self, kernel_id: str) -> Kernel:
        """The kernel of that id; NoSuchKernel when there is none."""
        try:
            return self._kernels[kernel_id]
        except KeyError:
            raise NoSuchKernel(kernel_id) from None

    def find(self, kernel_id: str) -> Kernel | None:
        """The kernel of that id, or None."""
        return self._kernels.get(kernel_id)

    async def start(
        self,
        name: str = "",
        *,
        path: str = "",
        kernel_id: str = "",
        session_name: str = "",
    ) -> Kernel:
        """Start a kernel in the folder of the API path. It may still be starting on return."""
        if kernel_id and not ID.fullmatch(kernel_id):
            raise BadRequest(f"kernel_id {kernel_id!r} is not five words joined by dashes, like a UUID.")
        if kernel_id in self._kernels:
            raise KernelExists(kernel_id)
        known = specs.find_all(self.options.allowed_kernels)
        spec = specs.find_in(known, name or specs.default_name(self.options.default_kernel, known))
        cwd = self.folder_of(path)
        env = {"JPY_SESSION_NAME": str(cwd / session_name)} if session_name else {}
        # A client that names the id expects a new process behind it.
        kernel = None if kernel_id else await self.spare.take(spec, cwd, env)
        if kernel is not None:
            self._kernels[kernel.id] = kernel
            self.witness.changed()
        else:
            kernel = await self._start_new(kernel_id or str(uuid.uuid4()), spec, cwd, env)
        self._tell(kernel, "start")
        self.spare.kernel_started(kernel)
        return kernel

    async def _start_new(
        self, kernel_id: str, spec: specs.KernelSpec, cwd: Path, env: dict[str, str]
    ) -> Kernel:
        kernel = Kernel(kernel_id, spec, cwd=cwd, env=env, around=self._surroundings())
        self._kernels[kernel_id] = kernel
        try:
            await kernel.start()
        except BaseException as error:
            self._kernels.pop(kernel_id, None)
            why = error.message if isinstance(error, ApiError) else "cancelled"
            self._tell(kernel, "start", error=why)
            raise
        return kernel

    async def _begin_spare(self, folder: Path, env: dict[str, str]) -> Kernel | None:
        known = await asyncio.to_thread(specs.find_all, self.options.allowed_kernels)
        spec = specs.find_in(known, specs.default_name(self.options.default_kernel, known))
        if spec.language != "python":
            return None  # it could not be told what session it belongs to
        kernel = Kernel(str(uuid.uuid4()), spec, cwd=folder, env=env, around=self._surroundings())
        await kernel.start()
        return kernel

    async def stop(self, kernel_id: str) -> None:
        """Shut one kernel down; it is off the list at once and gone on return."""
        kernel = self.get(kernel_id)
        del self._kernels[kernel_id]
        await kernel.stop()
        self._tell(kernel, "shutdown")

    async def restart(self, kernel_id: str) -> Kernel:
        """A new process under the same id, answering on return."""
        kernel = self.get(kernel_id)
        try:
            await kernel.restart()
        except ApiError as error:
            self._tell(kernel, "restart", error=error.message)
            raise
        self._tell(kernel, "restart")
        return kernel

    async def interrupt(self, kernel_id: str) -> None:
        """Interrupt what runs in it."""
        kernel = self.get(kernel_id)
        await kernel.interrupt()
        self._tell(kernel, "interrupt")

    async def close(self) -> None:
        """Every kernel is gone on return, and so is the runtime folder."""
        await self.spare.close()
        kernels, self._kernels = self.all(), {}
        await asyncio.gather(*(kernel.stop() for kernel in kernels))
        if self._around is None:
            return
        for task in list(self._around.tasks):
            task.cancel()
        await asyncio.gather(*self._around.tasks, return_exceptions=True)
        self._context.close()
        await self.launcher.close(self._around.folder)
        shutil.rmtree(self._around.folder, ignore_errors=True)
        self._around = None

    def folder_of(self, path: str) -> Path:
        """The folder of an API path, or the nearest one above it that exists; never outside the root."""
        root = self._root_dir.resolve()
        if "\0" in path:
            raise BadRequest("path contains a NUL byte.")
        folder = Path(os.path.normpath(root / path.strip("/"))).resolve()
        if not folder.is_relative_to(root):
            return root
        while folder != root and not folder.is_dir():
            folder = folder.parent
        return folder

    @property
    def folder(self) -> Path | None:
        """Where sockets and files of the kernels are, if there was one."""
        return self._around.folder if self._around is not None else None

    def take_back(self, kernel_id: str, spec: specs.KernelSpec, *, folder: Path, **known: Any) -> Kernel:
        """A kernel of an earlier server, whose files are in `folder`; it has no process yet."""
        kernel = Kernel(kernel_id, spec, around=self._surroundings(folder), **known)
        self._kernels[kernel_id] = kernel
        return kernel

    def _surroundings(self, folder: Path | None = None) -> Surroundings:
        if self._around is None:
            self._around = Surroundings(
                context=self._context,
                folder=folder or private_folder(self._runtime_dir),
                options=self.options,
                environ=self._environ,
                launcher=self.launcher,
                witness=self.witness,
                on_activity=self._on_activity,
                on_dead=self._forget,
                tap_for=self._tap_for,
            )
        return self._around

    def _forget(self, kernel: Kernel) -> None:
        if self._kernels.get(kernel.id) is kernel:
            del self._kernels[kernel.id]
            self._tell(kernel, "shutdown", error=kernel.reason)

    def _tell(self, kernel: Kernel, action: str, *, error: str = "") -> None:
        event: dict[str, Any] = {
            "action": action,
            "kernel_id": kernel.id,
            "kernel_name": kernel.spec.name,
            "status": "error" if error else "success",
        }
        if error:
            event["msg"] = error
        self._emit(ACTIONS_SCHEMA, event)


KERNELS = web.AppKey("KERNELS", KernelPool)
TAP_FOR: web.AppKey[TapFor] = web.AppKey("TAP_FOR", TapFor)
"""Set before the pool is made."""


def pool_for(app: web.Application) -> KernelPool:
    """The pool as the application's settings want it."""
    settings = app[SETTINGS]

    def emit(schema_id: str, data: dict[str, Any]) -> None:
        events = app.get(EVENTS)
        if events is not None:
            events.emit(schema_id, data)

    return KernelPool(
        root_dir=settings.root_dir,
        runtime_dir=settings.runtime_dir,
        environ=settings.environ,
        options=app.get(KERNEL_OPTIONS)
        or KernelOptions(
            shutdown_grace_s=settings.stop_grace_s,
            spare_idle_s=settings.spare_kernel_s,
            heartbeat_s=settings.heartbeat_s,
            cull_idle_timeout_s=settings.cull_kernels_s,
            cull_interval_s=settings.looks_every_s(settings.cull_kernels_s),
            cull_connected=settings.cull_connected,
            cull_busy=settings.cull_busy,
        ),
        emit=emit,
        on_activity=app[ACTIVITY].touch,
        tap_for=app.get(TAP_FOR) or (lambda _: NoTap()),
    )
