"""Messages between the processes of one proxy: JSON objects, one a line, over a unix socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

Message = dict[str, Any]


class Speaks(Protocol):
    """A way to whoever is served for, once there is one."""

    def send(self, message: Message) -> None:
        """Say something; in vain if the other end is gone."""

    def close(self) -> None:
        """Say no more."""


class Channel(asyncio.Protocol):
    """One end. `heard` gets each message, `lost` is called once the other end is gone."""

    def __init__(self, heard: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._heard = heard
        self._lost = lost
        self._held: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    async def speak_over(self, sock: socket.socket) -> None:
        """Take over a connected socket. Messages may be heard before this returns."""
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0] = b"".join([*self._held, whole[0]])
            self._held = []
        if rest:
            self._held.append(rest)
        for line in whole:
            self._heard(json.loads(line))

    def connection_lost(self, error: Exception | None) -> None:
        self._lost()

    def send(self, message: Message) -> None:
        """Say something; in vain if the other end is gone, which `lost` tells."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Say no more; what was said still arrives."""
        if self._transport is not None:
            self._transport.close()
