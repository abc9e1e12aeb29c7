"""The sockets of one session id to its kernel, and the browser that holds the session now, if any.

A kernel puts the question of `input()` on stdin and asks the identity that sent the request. Its ROUTER socket drops
what is for an identity it has not met, without a word, and shell and stdin connect each at its own time: a cell sent
as soon as shell takes it could ask before anybody can hear, and wait for ever. So nothing goes out on shell before
stdin is connected.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from himalia_singleuser.kernels.channels import Channel, ChannelFullError, Context
from himalia_singleuser.kernels.connection import Connection

if TYPE_CHECKING:
    from himalia_singleuser.kernels.client import Client

ASKED_CHANNELS: Final = ("shell", "control", "stdin")
STDIN_WAIT_S: Final = 2.0
MOST_HELD: Final = 1000


class Session:
    """DEALER sockets with the session id as identity. They outlive the browser.

    `on_reply(session_id, channel, frames)`: what the kernel answers. `is_up()`: whether the kernel has spoken; if it
    has, and takes nothing on stdin for `STDIN_WAIT_S`, it is one that never asks, and shell waits no longer.
    """

    def __init__(
        self,
        context: Context,
        connection: Connection,
        session_id: str,
        *,
        on_reply: Callable[[str, str, list[bytes]], None],
        is_up: Callable[[], bool],
    ) -> None:
        self.client: Client | None = None
        self._context = context
        self._id = session_id
        self._on_reply = on_reply
        self._is_up = is_up
        self._channels: dict[str, Channel] = {}
        self._held: list[Sequence[bytes]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.connect(connection)

    def connect(self, connection: Connection) -> None:
        """Connect, or connect to another kernel: what was not sent to the first one is dropped."""
        self.close()
        self._held = []
        identity = wire_identity(self._id)
        for name in ASKED_CHANNELS:
            self._channels[name] = Channel(
                self._context,
                connection.endpoint(name),
                partial(self._on_reply, self._id, name),
                identity=identity,
                on_connected=self._release if name == "stdin" else None,
            )
        self._wait()

    def send(self, channel: str, frames: Sequence[bytes]) -> None:
        """Send a signed message, on shell as soon as stdin is connected. ChannelFullError at 1000 unread."""
        if channel == "shell" and self._held is not None:
            if len(self._held) >= MOST_HELD:
                raise ChannelFullError
            self._held.append(frames)
            return
        self._channels[channel].send(frames)

    def close(self) -> None:
        """Close the sockets; the kernel forgets the identity."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for channel in self._channels.values():
            channel.close()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(STDIN_WAIT_S, self._waited)

    def _waited(self) -> None:
        if self._is_up():
            self._release()
        else:
            self._wait()

    def _release(self) -> None:
        held, self._held = self._held, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for frames in held or ():
            self._channels["shell"].send(frames)


def wire_identity(session_id: str) -> bytes:
    """The DEALER identity of a session: itself if ZMQ takes it (1 to 255 bytes, no NUL first) or a digest."""
    raw = session_id.encode(errors="surrogatepass")
    if 0 < len(raw) <= 255 and raw[0] != 0:
        return raw
    return hashlib.sha256(raw).hexdigest().encode()
