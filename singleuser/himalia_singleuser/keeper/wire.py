"""The subscriber's side of ZMTP 3.0 (RFC 23/ZMTP, NULL mechanism) on a plain socket: what a kernel publishes, as bytes.

Not libzmq: that wakes two threads at each message, which in a burst takes the processors from the kernel and the
server. Here messages wait in the system's buffer, and are then read many at once, without being taken apart.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_PROPERTIES = b"\x0bSocket-Type\0\0\0\x03SUB\x08Identity\0\0\0\0"
_READY = b"\x05READY" + _PROPERTIES
HELLO = GREETING + bytes((4, len(_READY))) + _READY
SUBSCRIBE = b"\x00\x01\x01"
"""A message that asks for everything. libzmq takes it only after it has said that it is ready itself."""
MORE, LONG, COMMAND = 1, 2, 4
READ_BYTES = 256 * 1024
MOST_BYTES = 4 * 1024 * 1024
"""Read at one turn, so that whoever else waits gets one."""
CONNECT_S = 1.0


def measure(raw: bytes | bytearray, at: int) -> tuple[int, int, int] | None:
    """Flags, begin and end of the body of the frame at `at`, as its head says; None when the head is not all there."""
    if at + 2 > len(raw):
        return None
    flags = raw[at]
    if not flags & LONG:
        return flags, at + 2, at + 2 + raw[at + 1]
    if at + 9 > len(raw):
        return None
    return flags, at + 9, at + 9 + int.from_bytes(raw[at + 1 : at + 9], "big")


def messages(raw: bytes) -> Iterator[tuple[list[bytes], int]]:
    """Whole messages as their frames, each with the offset of its end."""
    frames: list[bytes] = []
    at = 0
    while (found := measure(raw, at)) is not None and found[2] <= len(raw):
        flags, begin, at = found
        frames.append(raw[begin:at])
        if not flags & MORE:
            yield frames, at
            frames = []


class Subscription:
    """To everything one kernel publishes, through its deaths and returns. Never waits for longer than a connect."""

    def __init__(self, endpoint: str) -> None:
        self._transport, _, self._address = endpoint.partition("://")
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._at = self._whole = 0
        self._greeting = 0

    def fileno(self) -> int:
        """To be polled for reading; -1 while not connected: then `connect` is to be tried again."""
        return -1 if self._socket is None else self._socket.fileno()

    def connect(self) -> bool:
        """Whether it is connected now. A kernel listens a while after it was started."""
        if self._socket is None:
            with suppress(OSError):
                self._socket = self._connected()
        return self._socket is not None

    def _connected(self) -> socket.socket:
        is_ipc = self._transport == "ipc"
        sock = socket.socket(socket.AF_UNIX if is_ipc else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(CONNECT_S)
            host, _, port = self._address.rpartition(":")
            sock.connect(self._address if is_ipc else (host, int(port)))
            sock.sendall(HELLO)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        self._buffer.clear()
        self._at = self._whole = 0
        self._greeting = len(GREETING)
        return sock

    def read(self) -> tuple[bytes, int]:
        """What has come: frames of whole messages as they were on the wire, and how many messages that is."""
        if self._socket is None:
            return b"", 0
        came = 0
        try:
            while came < MOST_BYTES:
                piece = self._socket.recv(READ_BYTES)
                if not piece:
                    self.close()
                    break
                self._buffer += piece
                came += len(piece)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        return self._take() if came else (b"", 0)

    def close(self) -> None:
        """Twice is fine; `connect` begins anew."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _subscribe(self) -> None:
        with suppress(OSError):  # it has gone already: then there is an end to be read
            if self._socket is not None:
                self._socket.sendall(SUBSCRIBE)

    def _take(self) -> tuple[bytes, int]:
        if self._greeting:
            if len(self._buffer) < self._greeting:
                return b"", 0
            del self._buffer[: self._greeting]
            self._greeting = 0
        buffer, count = self._buffer, 0
        while (found := measure(buffer, self._at)) is not None and found[2] <= len(buffer):
            flags, begin, end = found
            if flags & COMMAND:  # comes between messages, and is none
                if buffer.startswith(b"\x05READY", begin):
                    self._subscribe()
                del buffer[self._at : end]
                continue
            self._at = end
            if not flags & MORE:
                self._whole = end
                count += 1
        whole = bytes(memoryview(buffer)[: self._whole])
        del buffer[: self._whole]
        self._at -= self._whole
        self._whole = 0
        return whole, count
