"""A kernel's life: start, interrupt, restart, unexpected death, stop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from himalia_singleuser.kernels.channels import Context
from himalia_singleuser.kernels.connection import Connection, new_connection
from himalia_singleuser.kernels.errors import KernelSilentError, KernelWontStart
from himalia_singleuser.kernels.heartbeat import Heartbeat, notice
from himalia_singleuser.kernels.messages import make
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.kernels.process import KernelProcess, Launcher, Start
from himalia_singleuser.kernels.relay import Relay
from himalia_singleuser.kernels.requests import NoTap, TapFor
from himalia_singleuser.kernels.specs import KernelSpec
from himalia_singleuser.kernels.spoken_for import certify_death
from himalia_singleuser.kernels.state import ExecutionState
from himalia_singleuser.kernels.witness import Witness

log = structlog.get_logger(__name__)

TERM_GRACE_S = 1.0
RESTART_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0)


@dataclass(slots=True)
class Surroundings:
    """What all kernels of a server share."""

    context: Context
    folder: Path
    options: KernelOptions
    environ: Mapping[str, str]
    launcher: Launcher
    witness: Witness
    on_activity: Callable[[datetime], None] = lambda _: None
    on_dead: Callable[[Kernel], None] = lambda _: None
    tap_for: TapFor = lambda _: NoTap()
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def log_of(self, kernel_id: str) -> Path:
        """What this kernel's processes print outside their protocol."""
        return self.folder / f"kernel-{kernel_id}.log"


class Kernel:
    """One kernel under one id, through all its processes."""

    def __init__(
        self,
        kernel_id: str,
        spec: KernelSpec,
        *,
        cwd: Path,
        env: Mapping[str, str],
        around: Surroundings,
        connection: Connection | None = None,
    ) -> None:
        self.id = kernel_id
        self.spec = spec
        self.cwd = cwd
        self.reason = ""
        self.state = ExecutionState(around.on_activity)
        self.env = env
        self._around = around
        self._options = around.options
        self.connection = connection or new_connection(self._options.transport, around.folder)
        self.relay = Relay(
            around.context,
            self.connection,
            around.options,
            on_published=self.state.published,
            on_sent=self.state.sent,
            tap=around.tap_for(kernel_id),
            witness=around.witness,
            kernel_id=kernel_id,
        )
        self._heartbeat = Heartbeat(
            around.context,
            limit_s=self._options.heartbeat_s,
            spoken=lambda: self.relay.latest,
            on_change=self._note_silence,
        )
        self._process: KernelProcess | None = None
        self._lock = asyncio.Lock()
        self._revival: asyncio.Task[None] | None = None
        self._deaths = 0
        self._answered_at: float | None = None
        self._ready = asyncio.Event()
        self._gone = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process id of the present incarnation."""
        return self._process.pid if self._process is not None else None

    @property
    def gone(self) -> bool:
        """Whether it was stopped or given up; such a kernel never comes back."""
        return self._gone.is_set()

    def model(self) -> dict[str, Any]:
        """The kernel model of the REST API."""
        model: dict[str, Any] = {
            "id": self.id,
            "name": self.spec.name,
            "last_activity": self.state.last_activity.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "execution_state": self.state.shown,
            "connections": self.relay.clients,
        }
        if reason := self._silence() if self.state.silent else self.reason:
            model["reason"] = reason
        return model

    def trim_log(self) -> None:
        """Keep what the process prints outside its protocol from filling the disk."""
        if self._process is not None:
            self._process.trim_log()

    async def start(self) -> None:
        """Run the first process; returns as soon as it exists. KernelWontStart if it cannot."""
        async with self._lock:
            try:
                await self._launch()
            except BaseException:
                self._end()
                raise

    async def wait_ready(self, at_most_s: float) -> bool:
        """Whether it answered within that time. False at once when it is gone."""
        waits = [asyncio.ensure_future(self._ready.wait()), asyncio.ensure_future(self._gone.wait())]
        try:
            await asyncio.wait(waits, timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._ready.is_set()

    async def interrupt(self) -> None:
        """Ask the running cell to stop, in the way the spec names."""
        if self.spec.interrupt_mode == "signal":
            if self._process is not None:
                self._process.signal_group(signal.SIGINT)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.shutdown_grace_s):
                await self.relay.ask("control", "interrupt_request")

    async def restart(self) -> None:
        """A new process under the same id, answering on return. KernelSilentError when it does not."""
        self._cancel_revival()
        async with self._lock:
            self.state.value = "restarting"
            await self._shut_down(restart=True)
            self._deaths = 0
            await self._launch()
        if not await self.wait_ready(self._options.ready_timeout_s):
            raise KernelSilentError(self.id, self._options.ready_timeout_s)

    async def stop(self) -> None:
        """Gone on return, with its sockets, its group and its files. Twice is fine."""
        self._cancel_revival()
        async with self._lock:
            if self.gone:
                return
            self._gone.set()
            await self._shut_down(restart=False)
            self.state.value = "dead"
            self._end()

    async def _launch(self) -> None:
        folder, spec = self._around.folder, self.spec
        file = folder / f"kernel-{self.id}.json"
        self._ready.clear()
        self._answered_at = None
        self.connection.write(file, kernel_name=spec.name, session_name=self.env.get("JPY_SESSION_NAME", ""))
        argv = spec.command(str(file))
        try:
            process = await self._around.launcher.start(
                Start(
                    self.id,
                    argv,
                    cwd=self.cwd,
                    env=spec.environ(self._around.environ, self.env),
                    log=self._around.log_of(self.id),
                    iopub=self.connection.endpoint("iopub"),
                )
            )
        except OSError as error:
            raise KernelWontStart(spec.name, f"{argv[0]}: {error.strerror or error}") from None
        self.take_over(process)
        log.info("kernel.started", kernel=self.id, spec=spec.name, pid=process.pid)

    def take_over(self, process: KernelProcess, *, has_answered: bool = False) -> None:
        """Its process from now on: one just started, or one that outlived the server that started it."""
        self._process = process
        self._around.witness.changed()
        # The process may have ended while this task was not looking: then the callback runs at once.
        process.exited.add_done_callback(lambda _: self._on_exit(process))
        if has_answered:
            self._note_answer()
        else:
            self._own(self._watch_readiness(process))

    async def _watch_readiness(self, process: KernelProcess) -> None:
        asking = asyncio.current_task()
        # An answer that can no longer come is not waited for.
        process.exited.add_done_callback(lambda _: asking.cancel() if asking is not None else None)
        await self.relay.wait_until_heard()
        if process is self._process:
            self._note_answer()

    def _note_answer(self) -> None:
        self._answered_at = time.monotonic()
        self.state.answered()
        self._ready.set()
        self._heartbeat.watch(self.connection.endpoint("hb"))

    def _silence(self) -> str:
        return f"does not answer: no heartbeat for {self._options.heartbeat_s:g} s"

    def _note_silence(self, silent: bool) -> None:
        log.warning("kernel.silent" if silent else "kernel.answers_again", kernel=self.id)
        self.state.silent = silent
        told = notice("starting", self._silence()) if silent else notice(self.state.value)
        self.relay.notice = told if silent else None
        self.relay.broadcast(told)

    def _watch_no_more(self) -> None:
        self._heartbeat.stop()
        self.state.silent, self.relay.notice = False, None

    def _on_exit(self, process: KernelProcess) -> None:
        if process is self._process and not self.gone:
            self._watch_no_more()
            self._process = None
            self._ready.clear()
            self._revival = self._own(self._revive(process))

    async def _revive(self, dead: KernelProcess) -> None:
        stable = self._answered_at is not None and (
            time.monotonic() - self._answered_at > self._options.stable_after_s
        )
        self._deaths = 1 if stable else self._deaths + 1
        how = dead.how_it_ended()
        log.warning("kernel.died", kernel=self.id, how=how, deaths=self._deaths)
        certify_death(self.relay, how)
        if self._deaths > self._options.restart_limit:
            self._give_up(dead)
            return
        async with self._lock:
            self.reason = how
            self.state.value = "restarting"
            self.relay.broadcast(make("iopub", "status", {"execution_state": "restarting"}))
            await asyncio.sleep(RESTART_PAUSES_S[min(self._deaths, len(RESTART_PAUSES_S)) - 1])
            self._renew_connection(fresh=self._answered_at is None)
            try:
                await self._launch()
            except KernelWontStart as error:
                self.reason = error.message
                self._give_up(dead)

    def _give_up(self, dead: KernelProcess) -> None:
        tail = dead.log_tail()
        self.reason = f"{dead.how_it_ended()}, {self._deaths} times" + (f":\n{tail}" if tail else "")
        self._gone.set()
        self.state.value = "dead"
        self.relay.broadcast(make("iopub", "status", {"execution_state": "dead"}))
        log.error("kernel.given_up", kernel=self.id, reason=self.reason)
        self._around.on_dead(self)
        # One turn of the loop, so that the last status is on its way before the sockets close.
        asyncio.get_running_loop().call_soon(self._end)

    async def _shut_down(self, *, restart: bool) -> None:
        self._watch_no_more()
        process, self._process = self._process, None
        answered = self._ready.is_set()
        self._ready.clear()
        if process is not None and not process.exited.done():
            if answered:
                await self._ask_to_shut_down(process, restart=restart)
            await process.end(grace_s=TERM_GRACE_S)
        self._renew_connection(fresh=False, closing=not restart)

    async def _ask_to_shut_down(self, process: KernelProcess, *, restart: bool) -> None:
        # A kernel that runs a cell ends only after it; interrupted first, as the stock server does too, it ends
        # now and still runs its own last words. An idle one ignores the interrupt.
        asked: list[asyncio.Future[Any]] = []
        if self.spec.interrupt_mode == "signal":
            process.signal_group(signal.SIGINT)
        else:
            asked.append(asyncio.ensure_future(self.relay.ask("control", "interrupt_request")))
        asked.append(
            asyncio.ensure_future(self.relay.ask("control", "shutdown_request", {"restart": restart}))
        )
        try:
            await process.wait(self._options.shutdown_grace_s)
        finally:
            for request in asked:
                request.cancel()

    def _renew_connection(self, *, fresh: bool, closing: bool = False) -> None:
        self.connection.remove_sockets()
        if closing:
            return
        if fresh:
            self.connection = new_connection(self._options.transport, self._around.folder)
        self.relay.open(self.connection)

    def _end(self) -> None:
        self._gone.set()
        self._watch_no_more()
        self._around.witness.changed()
        self.relay.close("the kernel was shut down")
        self.connection.remove_sockets()
        for ending in ("json", "log"):
            (self._around.folder / f"kernel-{self.id}.{ending}").unlink(missing_ok=True)

    def _cancel_revival(self) -> None:
        if self._revival is not None:
            self._revival.cancel()
            self._revival = None

    def _own(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._around.tasks.add(task)
        task.add_done_callback(self._around.tasks.discard)
        return task
