"""A kernel's operating-system process: in a group of its own, watched through a pidfd, ended as a group."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from himalia_singleuser.kernels.memory import oom_kills

LOG_TAIL_BYTES = 4096
LOG_MAX_BYTES = 1024 * 1024


class KernelProcess:
    """One incarnation of a kernel.

    What it prints outside its protocol goes to a file and not to a pipe: a pipe nobody drains would stop
    it, and one whose reader died would break it.
    """

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log
        self.pid = popen.pid
        self._oom_kills = oom_kills()
        self._out_of_memory = False
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @classmethod
    async def start(
        cls, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
    ) -> KernelProcess:
        """Run argv as the leader of a new session. OSError when the program cannot be started."""
        return cls(await asyncio.to_thread(_spawn, argv, cwd, env, log), log)

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
        code = self.exited.result()
        if code == -signal.SIGKILL and self._out_of_memory:
            return "killed by SIGKILL because memory ran out"
        if code < 0:
            return (
                f"killed by {signal.Signals(-code).name}"
                if -code in set(signal.Signals)
                else f"signal {-code}"
            )
        return f"exited with code {code}"

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Still a zombie, so its number cannot belong to another group yet: what it leaves behind
        # (worker pools, shells) ends with it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._out_of_memory = oom_kills() > self._oom_kills
        self.exited.set_result(self._popen.wait())


def _spawn(argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            close_fds=True,
        )
