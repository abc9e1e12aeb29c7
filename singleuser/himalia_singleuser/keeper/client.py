"""The server's end of the keeper: kernels started through it, their ends heard of, a new keeper when one is killed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from himalia_singleuser.kernels.process import Ended, KernelProcess, Start

log = structlog.get_logger(__name__)

LENGTH = struct.Struct("<I")
SOCKET = "keeper.sock"
ENDED_S = 2.0
"""How long after a kernel's end the keeper may take to say how it was."""
KEPT_MARK = "HIMALIA_KEPT"
"""In the environment of the keeper, its kernels and what they start: for those who clean up after a dead server."""


class KeeperGone(OSError):
    """The keeper was killed, or cannot be started."""


class KeptProcess(KernelProcess):
    """A kernel that the keeper is the parent of."""

    def __init__(self, pid: int, log: Path) -> None:
        super().__init__(pid, log)
        self._pidfd = -1
        self.told: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting: asyncio.Task[None] | None = None
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            self._ended_meanwhile()
            return
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        self.release()
        self._ended_meanwhile()

    def _ended_meanwhile(self) -> None:
        # The process is gone; how is what its parent knows, if that is still there.
        self._waiting = asyncio.ensure_future(self._finish())

    async def _finish(self) -> None:
        await asyncio.wait([self.told], timeout=ENDED_S)
        if not self.exited.done():
            self.exited.set_result(self.told.result() if self.told.done() else Ended(None))

    def tell(self, ended: Ended) -> None:
        """The keeper says how it ended, or (code None) that it does not know."""
        if not self.told.done():
            self.told.set_result(ended)

    def signal_group(self, number: int) -> None:
        """As for any process; nothing once it is gone, even if how is not known yet."""
        if self._pidfd >= 0:
            super().signal_group(number)

    def release(self) -> None:
        """Watch it no longer."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class Keeper:
    """A connection to one keeper. It tells of kernels' ends, of the first message it hears of each, of its own end."""

    def __init__(
        self,
        on_ended: Callable[[str, int, Ended], None],
        on_heard: Callable[[str], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._on_ended, self._on_heard, self._on_lost = on_ended, on_heard, on_lost
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._no = 0
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._popen: subprocess.Popen[bytes] | None = None

    async def start(self, folder: Path, times: Sequence[float], environ: Mapping[str, str]) -> None:
        """Have a new one made for `folder`. KeeperGone when it cannot be."""
        try:
            self._popen = await asyncio.to_thread(_spawn, folder, times, environ)
        except OSError as error:
            raise KeeperGone(f"the keeper of the kernels cannot be started: {error.strerror}") from None
        await self.connect(folder)

    async def connect(self, folder: Path) -> None:
        """To the one that runs. KeeperGone when there is none."""
        try:
            reader, self._writer = await asyncio.open_unix_connection(str(folder / SOCKET), limit=2**24)
        except OSError as error:
            raise KeeperGone(f"the keeper of the kernels does not listen: {error.strerror}") from None
        self._reading = asyncio.ensure_future(self._read(reader))

    async def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Have something done. KeeperGone when it is not there to do it."""
        if self._writer is None or self._writer.is_closing():
            raise KeeperGone("the keeper of the kernels is gone")
        self._no += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._no] = answer
        raw = json.dumps({"no": self._no, "do": do, **more}).encode()
        self._writer.write(LENGTH.pack(len(raw)) + raw)
        return await answer

    def say(self, do: str, **more: Any) -> None:
        """The same, whether it is there or not, and without an answer."""
        if self._writer is not None and not self._writer.is_closing():
            raw = json.dumps({"no": 0, "do": do, **more}).encode()
            self._writer.write(LENGTH.pack(len(raw)) + raw)

    async def leave(self) -> None:
        """Close the connection. A keeper that was not told to end goes on by itself."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._close()

    async def end(self) -> None:
        """It is gone on return, and with it every kernel it still had."""
        with suppress(KeeperGone):
            await self.ask("end")
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                told = json.loads(await reader.readexactly(size))
                if "heard" in told:
                    self._on_heard(told["heard"])
                elif "ended" in told:
                    self._on_ended(told["ended"], told["pid"], Ended(told["code"], told["oom"]))
                elif (answer := self._answers.pop(told["re"], None)) is not None and not answer.done():
                    answer.set_result(told)
        except (OSError, asyncio.IncompleteReadError):
            pass
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(KeeperGone("the keeper of the kernels is gone"))
        self._answers.clear()
        if self._writer is not None:
            self._writer.close()
        self._on_lost()

    async def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
        if self._popen is not None:
            popen, self._popen = self._popen, None
            if popen.poll() is None and self._reading is not None and self._reading.cancelled():
                popen.returncode = 0  # left to itself: nobody waits for it any more
            else:
                await asyncio.to_thread(popen.wait)


def _spawn(folder: Path, times: Sequence[float], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The socket listens before the keeper does: nobody has to wait for it to be there."""
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(4)
        args = [str(folder), str(listener.fileno()), *map(str, times)]
        log = os.open(folder / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-m", "himalia_singleuser.keeper", *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**environ, KEPT_MARK: "1"},
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        finally:
            os.close(log)


class KeptLauncher:
    """Kernels as children of a keeper, which is started with the first of them.

    `times`: how long it goes on when its server was killed, in seconds: with idle kernels, and with any.
    """

    def __init__(
        self,
        times: Sequence[float],
        environ: Mapping[str, str],
        *,
        opened: Callable[[], Awaitable[Path]],
        changed: Callable[[], None],
        renewed: Callable[[], None],
        closed: Callable[[], None],
    ) -> None:
        self._times, self._environ = times, environ
        self._opened, self._changed, self._renewed, self._closed = opened, changed, renewed, closed
        self._folder: Path | None = None
        self._keeper: Keeper | None = None
        self._processes: dict[str, KeptProcess] = {}
        self._iopub: dict[str, str] = {}
        self._heard: dict[str, asyncio.Event] = {}  # by kernel that a new keeper was to listen to
        self._lock = asyncio.Lock()
        self._closing = False
        self._renewing: asyncio.Task[None] | None = None

    async def start(self, wanted: Start) -> KernelProcess:
        """Run it. OSError when the program cannot be started, KeeperGone when the keeper cannot."""
        keeper = await self._ready()
        # Process 1 as a parent means to kernels: follow nobody's death (ipykernel's parent poller).
        env = {**wanted.env, "JPY_PARENT_PID": "1", KEPT_MARK: "1"}
        answer = await keeper.ask(
            "start",
            kernel=wanted.kernel_id,
            argv=list(wanted.argv),
            cwd=str(wanted.cwd),
            env=env,
            log=str(wanted.log),
            iopub=wanted.iopub,
        )
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return self.attend(wanted.kernel_id, answer["pid"], wanted.log, wanted.iopub)

    def attend(self, kernel_id: str, pid: int, log: Path, iopub: str) -> KeptProcess:
        """A process that runs under the keeper, or has just ended."""
        process = self._processes[kernel_id] = KeptProcess(pid, log)
        self._iopub[kernel_id] = iopub
        return process

    async def take_over(self, folder: Path) -> dict[str, Any] | None:
        """What the keeper of this folder has, by kernel; None when it is gone."""
        self._folder = folder
        keeper = Keeper(self._on_ended, self._on_heard, self._on_lost)
        try:
            await keeper.connect(folder)
            kernels = (await keeper.ask("hello"))["kernels"]
        except KeeperGone:
            await keeper.leave()
            return None
        self._keeper = keeper
        return dict(kernels)

    async def renew(self) -> None:
        """A keeper in the place of one that was killed; the kernels that run are its own from now on."""
        async with self._lock:
            if self._folder is None or self._closing:
                return
            if self._keeper is not None:
                await self._keeper.leave()
            self._keeper = Keeper(self._on_ended, self._on_heard, self._on_lost)
            await self._keeper.start(self._folder, self._times, self._environ)
            for kernel_id, process in self._processes.items():
                if not process.exited.done():
                    iopub = self._iopub[kernel_id]
                    self._heard[kernel_id] = asyncio.Event()
                    await self._keeper.ask("adopt", kernel=kernel_id, pid=process.pid, iopub=iopub)
        log.warning("keeper.renewed", kernels=len(self._processes))
        self._renewed()

    async def _ready(self) -> Keeper:
        if self._renewing is not None:
            await asyncio.wait([self._renewing])
        async with self._lock:
            if self._keeper is None:
                self._folder = await self._opened()
                self._keeper = Keeper(self._on_ended, self._on_heard, self._on_lost)
                await self._keeper.start(self._folder, self._times, self._environ)
            return self._keeper

    async def is_heard(self, kernel_id: str, *, within_s: float) -> bool:
        """Whether the keeper that took the place of another has heard something of this kernel, now or soon."""
        heard = self._heard.get(kernel_id)
        if heard is None:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await heard.wait()
        return heard.is_set()

    def gone(self) -> list[str]:
        """Kernels whose process has ended."""
        return [kernel_id for kernel_id, process in self._processes.items() if process.exited.done()]

    def trim(self, kernel_id: str, mark: str) -> None:
        """The journal up to this message is not needed any more."""
        if self._keeper is not None:
            self._keeper.say("trim", kernel=kernel_id, mark=mark)

    def forget(self, kernel_id: str) -> None:
        """A kernel that is gone for good."""
        self._processes.pop(kernel_id, None)
        self._iopub.pop(kernel_id, None)
        self._heard.pop(kernel_id, None)
        if self._keeper is not None:
            self._keeper.say("forget", kernel=kernel_id)

    def stopping(self) -> None:
        """This server is being stopped: should it be killed meanwhile, the kernels end at once."""
        self._closing = True
        if self._keeper is not None:
            self._keeper.say("stopping")

    async def close(self, folder: Path) -> None:
        """The keeper is gone on return."""
        self._closing = True
        if self._renewing is not None:
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._keeper is not None:
            await self._keeper.end()
        for process in self._processes.values():
            process.release()
        await asyncio.to_thread(self._closed)

    async def dismiss(self) -> None:
        """End a keeper whose kernels nobody knows."""
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            await keeper.end()

    def _on_ended(self, kernel_id: str, pid: int, ended: Ended) -> None:
        process = self._processes.get(kernel_id)
        if process is not None and process.pid == pid:
            process.tell(ended)

    def _on_heard(self, kernel_id: str) -> None:
        if kernel_id in self._heard:
            self._heard[kernel_id].set()
        self._changed()

    def _on_lost(self) -> None:
        for process in self._processes.values():
            if process.exited.done():
                process.tell(Ended(None))
        if not self._closing and self._keeper is not None:
            log.error("keeper.lost")
            self._renewing = asyncio.ensure_future(self._renew_after_loss())

    async def _renew_after_loss(self) -> None:
        try:
            await self.renew()
        except OSError as error:
            log.error("keeper.not_renewed", why=str(error))
