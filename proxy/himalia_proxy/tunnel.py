"""Raw bytes both ways, once a target has answered 101: WebSockets and whatever else was agreed on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Final

from himalia_proxy.table import Entry

HALF_OPEN_S: Final = 30.0
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 4))


class End(asyncio.Protocol):
    """One end of a tunnel. `counts` is the route whose activity its bytes are: the client's end has one."""

    __slots__ = ("_counts", "_ended", "_tls", "_tunnels", "other", "transport")

    def __init__(
        self, transport: asyncio.Transport, counts: Entry | None, tunnels: set[End], *, tls: bool
    ) -> None:
        self.transport = transport
        self.other: End = self
        self._counts = counts
        self._tunnels = tunnels
        self._ended = False
        self._tls = tls

    def data_received(self, data: bytes) -> None:
        if self._counts is not None:
            self._counts.last_activity = time.time()
        self.other.transport.write(data)

    def eof_received(self) -> bool | None:
        """Pass the end on and keep the other direction, but not for ever."""
        self._ended = True
        other = self.other
        if self._tls or other._tls or other._ended or not other.transport.can_write_eof():
            self.close()
            return None
        other.transport.write_eof()
        asyncio.get_running_loop().call_later(HALF_OPEN_S, self.close)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._tunnels.discard(self)
        if not self.other.transport.is_closing():
            self.other.transport.close()

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def close(self) -> None:
        """Close both ends once what they hold has left."""
        self.transport.close()
        self.other.transport.close()

    def abort(self) -> None:
        """Cut both ends."""
        self.transport.abort()
        self.other.transport.abort()


def join(
    client: asyncio.Transport,
    target: asyncio.Transport,
    entry: Entry,
    tunnels: set[End],
    *,
    tls: bool,
    target_tls: bool,
) -> None:
    """Make two connections one tunnel. Half-open ones are found by TCP keep-alive."""
    near, far = End(client, entry, tunnels, tls=tls), End(target, None, tunnels, tls=target_tls)
    near.other, far.other = far, near
    tunnels.add(near)
    client.set_protocol(near)
    target.set_protocol(far)
    keep_alive(client)
    keep_alive(target)


def keep_alive(transport: asyncio.Transport) -> None:
    """Let the kernel find out whether an idle peer is still there; nothing to do on a unix socket."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
