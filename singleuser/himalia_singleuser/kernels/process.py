"""A kernel's operating-system process: in a group of its own, ended as a group, its end known with its cause."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from himalia_singleuser.kernels.memory import oom_kills
from himalia_singleuser.kernels.spawning import spawn

LOG_TAIL_BYTES = 4096
LOG_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code as `subprocess` counts it, None where nobody was there to read it."""

    code: int | None
    out_of_memory: bool = False

    def words(self) -> str:
        """One phrase on it."""
        if self.code is None:
            return "ended while nobody watched it"
        if self.code == -signal.SIGKILL and self.out_of_memory:
            return "killed by SIGKILL because memory ran out"
        if self.code >= 0:
            return f"exited with code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"


class KernelProcess:
    """One incarnation of a kernel, whoever its parent is: the maker sets `exited`.

    What it prints outside its protocol goes to a file and not to a pipe: a pipe nobody drains would stop
    it, and one whose reader died would break it.
    """

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self._log = log
        self.exited: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    def signal_group(self, number: int) -> None:
        """To the kernel and all that it started in its group. Being gone is success."""
        if not self.exited.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def wait(self, at_most_s: float) -> bool:
        """Whether it ended within that time."""
        await asyncio.wait([self.exited], timeout=at_most_s)
        return self.exited.done()

    async def end(self, *, grace_s: float) -> None:
        """Gone on return: TERM, then KILL after `grace_s`."""
        self.signal_group(signal.SIGTERM)
        if not await self.wait(grace_s):
            self.signal_group(signal.SIGKILL)
            await asyncio.shield(self.exited)

    def log_tail(self) -> str:
        """The last lines it printed outside its protocol, for explaining a death."""
        try:
            with open(self._log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def trim_log(self) -> None:
        """Empty the log when it grew past `LOG_MAX_BYTES`; the kernel appends, so it simply goes on."""
        with suppress(OSError):
            if self._log.stat().st_size > LOG_MAX_BYTES:
                os.truncate(self._log, 0)

    def how_it_ended(self) -> str:
        """One phrase on the exit, once there was one."""
        return self.exited.result().words()


@dataclass(frozen=True, slots=True)
class Start:
    """What is to run, and where its outputs are published (`iopub`, a ZMQ address)."""

    kernel_id: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    log: Path
    iopub: str


class Launcher(Protocol):
    """Who starts kernels, and so is their parent."""

    async def start(self, wanted: Start) -> KernelProcess:
        """Run it as the leader of a new session. OSError when the program cannot be started."""

    async def close(self, folder: Path) -> None:
        """All kernels have ended; `folder`, their sockets and files, is no longer needed."""


class ChildProcess(KernelProcess):
    """A kernel that this process is the parent of, watched through a pidfd."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        super().__init__(popen.pid, log)
        self._popen = popen
        self._oom_kills = oom_kills()
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Still a zombie, so its number cannot belong to another group yet: what it leaves behind
        # (worker pools, shells) ends with it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        out_of_memory = oom_kills() > self._oom_kills
        self.exited.set_result(Ended(self._popen.wait(), out_of_memory))


class ChildLauncher:
    """Kernels as children of the server: they end with it, whatever ends it (`JPY_PARENT_PID`)."""

    async def start(self, wanted: Start) -> KernelProcess:
        """Run it. OSError when the program cannot be started."""
        env = {**wanted.env, "JPY_PARENT_PID": str(os.getpid())}
        spawning = asyncio.ensure_future(
            asyncio.to_thread(spawn, wanted.argv, str(wanted.cwd), env, str(wanted.log))
        )
        try:
            popen = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # The thread cannot be stopped, and what it starts would be nobody's.
            with suppress(OSError):
                await ChildProcess(await spawning, wanted.log).end(grace_s=0)
            raise
        return ChildProcess(popen, wanted.log)

    async def close(self, folder: Path) -> None:
        """Nothing of its own is left."""
