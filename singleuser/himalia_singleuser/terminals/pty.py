"""A shell on a pseudo-terminal, on the event loop."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LINES, COLUMNS = 24, 80
"""The size until a browser says its own."""
READ_BYTES = 64 * 1024
MOST_PENDING_INPUT = 16 * 1024 * 1024
SIGNALS = (signal.SIGHUP, signal.SIGCONT, signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
SIGNAL_STEP_S = 0.1

# The shell must be the leader of its session and must open the terminal itself to own it; done by sh
# rather than by Python code between fork and exec, which is unsafe next to threads.
TAKE_TTY = ("/bin/sh", "-c", 'exec <>"$0" >&0 2>&1 && exec "$@"')


class Pty:
    """One shell: text out through `on_text`, text in through `write`, its end through `on_end`."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        on_text: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_text, self._on_end = on_text, on_end
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = bytearray()
        self._reading = False
        self.ended = asyncio.Event()
        self._master, slave = os.openpty()
        try:
            self._set_size(LINES, COLUMNS)
            self._popen = subprocess.Popen(
                [*TAKE_TTY, os.ttyname(slave), *argv],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                close_fds=True,
            )
        except BaseException:
            os.close(self._master)
            os.close(slave)
            raise
        self.pid = self._popen.pid
        # Held until the shell's end: a master whose last slave is closed reads EIO, and there would be
        # such a moment before the shell has opened its own.
        self._slave = slave
        os.set_blocking(self._master, False)
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        self.resume()

    def write(self, text: str) -> bool:
        """Type text. False when the shell has not read 16 MiB already typed."""
        if self.ended.is_set():
            return True
        data = text.encode(errors="replace")
        if len(self._pending) + len(data) > MOST_PENDING_INPUT:
            return False
        self._pending += data
        self._flush()
        return True

    def resize(self, rows: int, cols: int) -> None:
        """Tell the programs on the terminal its size."""
        if not self.ended.is_set():
            self._set_size(rows, cols)

    def pause(self) -> None:
        """Stop reading: the programs wait when the terminal's own buffer is full."""
        if self._reading:
            self._loop.remove_reader(self._master)
            self._reading = False

    def resume(self) -> None:
        """Read again."""
        if not self._reading and not self.ended.is_set():
            self._loop.add_reader(self._master, self._read)
            self._reading = True

    async def end(self, *, whole_session: bool = False) -> None:
        """The shell is gone on return. `whole_session`: also what it left in the background."""
        for number in SIGNALS:
            if self.ended.is_set():
                break
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(SIGNAL_STEP_S):
                    await self.ended.wait()
        await self.ended.wait()
        if whole_session:
            for pid in session_members(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _set_size(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def _read(self) -> None:
        try:
            data = os.read(self._master, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.pause()
            return
        text = self._decoder.decode(data)
        if text:
            self._on_text(text)

    def _flush(self) -> None:
        try:
            while self._pending:
                del self._pending[: os.write(self._master, self._pending[:READ_BYTES])]
        except BlockingIOError:
            self._loop.add_writer(self._master, self._flush)
            return
        except OSError:
            self._pending.clear()
        self._loop.remove_writer(self._master)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._popen.wait()
        self._read_rest()
        self.pause()
        self._loop.remove_writer(self._master)
        self.ended.set()
        os.close(self._slave)
        os.close(self._master)
        self._on_end()

    def _read_rest(self) -> None:
        # Bounded: a background job may go on writing for ever.
        for _ in range(16):
            try:
                data = os.read(self._master, READ_BYTES)
            except OSError:
                break
            if not data:
                break
            self._on_text(self._decoder.decode(data))


def session_members(leader: int) -> Iterator[int]:
    """Processes whose session is `leader`'s, the leader itself left out."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == leader:
            continue
        with suppress(OSError, ValueError, IndexError):
            # The name in parentheses may hold anything, so count from its end.
            after = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(after[3]) == leader:
                yield int(entry)
