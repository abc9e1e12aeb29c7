"""`python -I -m himalia_singleuser.keeper FOLDER FD KEEP_S MOST_S`: the parent of one person's kernels.

It starts kernels when its server asks, tells how they ended, and writes down what they publish (journal.py). When the
server is gone without a word it goes on, and waits for the next one: until the kernels have been idle for KEEP_S, and
never longer than MOST_S. A server that was told to stop says so, and then nothing is left.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

from himalia_singleuser.keeper.journal import Journal
from himalia_singleuser.keeper.wire import Subscription
from himalia_singleuser.kernels.memory import oom_kills
from himalia_singleuser.kernels.spawning import spawn

LENGTH = struct.Struct("<I")
PACE_MS = 20
PLENTY_BYTES = 64 * 1024
"""When so much has come the next look is at once: the system holds some 200 kB, the kernel 1,000 messages."""
RECONNECT_MS = 20
ANSWER_S = 5.0
STATE = re.compile(rb'"execution_state":\s*"(\w+)"')


class Kept:
    """One kernel: its present process, its subscription, its journal."""

    def __init__(self, kernel_id: str, folder: str) -> None:
        self.id = kernel_id
        self.journal = Journal(folder, kernel_id)
        self.popen: Any = None
        self.pid = 0
        self.pidfd = -1
        self.subscription: Subscription | None = None
        self.descriptor = -1
        """Under which the subscription is polled."""
        self.oom_before = 0
        self.ended: dict[str, Any] | None = None
        self.busy = False
        self.forgotten = False
        self.heard = False

    def model(self) -> dict[str, Any]:
        """As a server is told of it."""
        return {"pid": self.pid, "ended": self.ended, "missed": self.journal.missed}

    def publish(self, raw: bytes, count: int) -> None:
        """Write messages down, and note whether the kernel works."""
        self.journal.append(raw, count)
        # Inside of other contents the quotes would be escaped.
        at = raw.rfind(b'"execution_state"')
        if at >= 0 and (state := STATE.match(raw, at)) is not None:
            self.busy = state[1] == b"busy"

    def kill(self) -> None:
        """Its whole group, unless the process has been waited for already."""
        if self.pid and self.ended is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


class Keeper:
    """The loop: one `poll`, nothing that waits elsewhere."""

    def __init__(self, folder: str, listener: socket.socket, keep_s: float, most_s: float) -> None:
        self._folder, self._listener = folder, listener
        self._keep_s, self._most_s = keep_s, most_s
        self._kernels: dict[str, Kept] = {}
        self._server: socket.socket | None = None
        self._read = bytearray()
        self._left_at = self._alone_since = time.monotonic()
        self._poll, self._urgent = select.poll(), select.poll()
        """The second is without what kernels publish."""
        self._register(listener.fileno())
        self._by_fd: dict[int, Kept] = {}
        self._ended = False

    def run(self) -> None:
        """Until a server ends it, or nobody came for too long."""
        while not self._ended:
            heard = max((self._drain(kept) for kept in self._kernels.values()), default=0)
            # What is published may wait in the system's buffer for a moment: reading each message as it comes would
            # take the processor from the kernel and the server, who are busy with it.
            # Without a server nobody else has it, and a kernel drops what 1,000 messages later is not taken yet.
            pace_ms = 0 if heard > PLENTY_BYTES or self._server is None else PACE_MS
            events = self._urgent.poll(pace_ms) if heard else self._poll.poll(self._patience_ms())
            for descriptor, _ in events:
                if descriptor == self._listener.fileno():
                    self._accept()
                elif self._server is not None and descriptor == self._server.fileno():
                    self._hear()
                elif descriptor in self._by_fd:
                    self._reap(self._by_fd[descriptor])
            if self._server is None and self._is_over():
                return

    def _patience_ms(self) -> int | None:
        if any(kept.subscription and kept.descriptor < 0 for kept in self._kernels.values()):
            return RECONNECT_MS
        if self._server is not None:
            return None
        return max(50, min(1000, int(self._keep_s * 1000)))

    def _is_over(self) -> bool:
        if any(kept.busy and kept.ended is None for kept in self._kernels.values()):
            self._alone_since = time.monotonic()
        alive = any(kept.ended is None for kept in self._kernels.values())
        patience = self._keep_s if alive or self._keep_s == 0 else max(self._keep_s, ANSWER_S)
        now = time.monotonic()
        return now - self._alone_since > patience or now - self._left_at > max(self._most_s, patience)

    def close(self) -> None:
        """Kernels, groups and journals are gone on return."""
        for kept in self._kernels.values():
            kept.kill()
        for kept in self._kernels.values():
            if kept.popen is not None and kept.ended is None:
                kept.popen.wait()
            kept.journal.clear()
            self._unsubscribe(kept)

    # -- the server ---------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(OSError):
            server, _ = self._listener.accept()
            self._leave()  # there is one at a time, by the lock on the folder
            server.settimeout(ANSWER_S)
            self._server = server
            self._register(server.fileno())

    def _leave(self) -> None:
        if self._server is not None:
            self._unregister(self._server.fileno())
            self._server.close()
            self._server = None
            self._left_at = self._alone_since = time.monotonic()
        self._read.clear()

    def _hear(self) -> None:
        assert self._server is not None
        try:
            heard = self._server.recv(1 << 20)
        except OSError:
            heard = b""
        if not heard:
            self._leave()
            return
        self._read += heard
        while len(self._read) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._read)
            if len(self._read) < LENGTH.size + size:
                return
            asked = json.loads(self._read[LENGTH.size : LENGTH.size + size])
            del self._read[: LENGTH.size + size]
            self._obey(asked)

    def _obey(self, asked: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"re": asked["no"]}
        kept = self._kernels.get(asked.get("kernel", ""))
        match asked["do"]:
            case "hello":
                answer["kernels"] = {one.id: one.model() for one in self._kernels.values()}
            case "start":
                answer |= self._start(asked)
            case "adopt":
                self._adopt(asked)
            case "trim" if kept is not None:
                kept.journal.trim(asked["mark"].encode())
            case "forget" if kept is not None:
                self._forget(kept)
            case "stopping":
                self._keep_s = self._most_s = 0.0
            case "end":
                self._ended = True
        self._tell(answer)

    def _tell(self, told: dict[str, Any]) -> None:
        if self._server is None:
            return
        raw = json.dumps(told).encode()
        try:
            self._server.sendall(LENGTH.pack(len(raw)) + raw)
        except OSError:
            self._leave()

    # -- kernels ------------------------------------------------------------------------------------------

    def _start(self, asked: dict[str, Any]) -> dict[str, Any]:
        kept = self._kernels.get(asked["kernel"]) or Kept(asked["kernel"], self._folder)
        try:
            popen = spawn(asked["argv"], asked["cwd"], asked["env"], asked["log"])
        except OSError as error:
            return {"errno": error.errno or 0}
        kept.popen = popen
        self._watch(kept, popen.pid, asked["iopub"])
        return {"pid": popen.pid}

    def _adopt(self, asked: dict[str, Any]) -> None:
        """A kernel whose parent was another keeper, that was killed: it is watched, its exit code is nobody's."""
        kept = Kept(asked["kernel"], self._folder)
        kept.journal.clear()  # the server has all of it
        self._watch(kept, asked["pid"], asked["iopub"])

    def _watch(self, kept: Kept, pid: int, iopub: str) -> None:
        self._unsubscribe(kept)
        kept.pid, kept.ended, kept.busy, kept.heard = pid, None, False, False
        kept.oom_before = oom_kills()
        self._kernels[kept.id] = kept
        try:
            kept.pidfd = os.pidfd_open(pid)
        except OSError:
            kept.ended = {"code": None, "oom": False}
            return
        self._by_fd[kept.pidfd] = kept
        self._register(kept.pidfd)
        self._subscribe(kept, iopub)

    def _forget(self, kept: Kept) -> None:
        kept.kill()
        self._unsubscribe(kept)
        kept.journal.clear()
        kept.forgotten = True
        if kept.ended is not None:
            del self._kernels[kept.id]

    def _subscribe(self, kept: Kept, iopub: str) -> None:
        kept.subscription = Subscription(iopub)

    def _unsubscribe(self, kept: Kept) -> None:
        if kept.subscription is not None:
            self._drain_all(kept)
            self._unpoll(kept)
            kept.subscription.close()
            kept.subscription = None

    def _unpoll(self, kept: Kept) -> None:
        if kept.descriptor >= 0:
            self._poll.unregister(kept.descriptor)
            kept.descriptor = -1

    def _register(self, descriptor: int) -> None:
        self._poll.register(descriptor, select.POLLIN)
        self._urgent.register(descriptor, select.POLLIN)

    def _unregister(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._urgent.unregister(descriptor)

    def _drain(self, kept: Kept) -> int:
        """How many bytes of messages came."""
        subscription = kept.subscription
        if subscription is None:
            return 0
        if kept.descriptor < 0 and subscription.connect():
            kept.descriptor = subscription.fileno()
            self._poll.register(kept.descriptor, select.POLLIN)
        raw, count = subscription.read()
        if subscription.fileno() < 0:
            self._unpoll(kept)
        if raw:
            kept.publish(raw, count)
            if not kept.heard:  # from here on nothing is missed; what came before, the server must write down
                kept.heard = True
                self._tell({"heard": kept.id})
        return len(raw)

    def _drain_all(self, kept: Kept) -> None:
        while self._drain(kept):
            pass

    def _reap(self, kept: Kept) -> None:
        self._unregister(kept.pidfd)
        del self._by_fd[kept.pidfd]
        os.close(kept.pidfd)
        self._unsubscribe(kept)
        code = None
        if kept.popen is not None and kept.popen.pid == kept.pid:
            kept.kill()  # what it left behind ends with it; a zombie's number is nobody else's yet
            code = kept.popen.wait()
        kept.ended = {"code": code, "oom": oom_kills() > kept.oom_before}
        kept.busy = False
        if kept.forgotten:
            self._kernels.pop(kept.id, None)
        self._tell({"ended": kept.id, "pid": kept.pid, **kept.ended})


def main(argv: list[str]) -> int:
    """0 in the end."""
    folder, descriptor, keep_s, most_s = argv[0], int(argv[1]), float(argv[2]), float(argv[3])
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as listener:
        listener.settimeout(ANSWER_S)
        keeper = Keeper(folder, listener, keep_s, most_s)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            keeper.run()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            keeper.close()
            _remove(folder)
    return 0


def _remove(folder: str) -> None:
    """The folder is flat: sockets, connection files, logs, what servers wrote down."""
    for name in os.listdir(folder):
        with suppress(OSError):
            os.unlink(f"{folder}/{name}")
    with suppress(OSError):
        os.rmdir(folder)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
