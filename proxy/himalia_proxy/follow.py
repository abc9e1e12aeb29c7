"""Following another proxy, or a hub (`hub.py`): its table and every change of it.

So a proxy is added by starting it. What it counts, and which routes are used through it, reaches the one it follows,
and so the hub. While that one is away, it serves by what it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import Final, cast

from himalia_proxy.channel import Channel, Message, Speaks
from himalia_proxy.core import log
from himalia_proxy.errors import Unreachable
from himalia_proxy.members import Membership
from himalia_proxy.sockets import pinned
from himalia_proxy.target import Target

PROTOCOL: Final = b"himalia-proxy-table"
ANSWERS_WITHIN_S: Final = 10.0
_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_MOST_HEAD: Final = 8192


class _Asking(asyncio.Protocol):
    """Sends the request and waits for 101; afterwards the connection is the channel's."""

    def __init__(self, head: bytes, channel: Channel) -> None:
        self.agreed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = head
        self._channel = channel
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, mark, rest = self._held.partition(b"\r\n\r\n")
        if not mark and len(self._held) < _MOST_HEAD:
            return
        if not head.startswith(b"HTTP/1.1 101 "):
            self._fail(f"it answered {head.partition(bytes((13, 10)))[0].decode('latin-1')!r}")
            self._transport.abort()
            return
        self._transport.set_protocol(self._channel)
        self._channel.connection_made(self._transport)
        if not self.agreed.done():
            self.agreed.set_result(None)
        if rest:
            self._channel.data_received(rest)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error or "it closed the connection"))

    def _fail(self, why: str) -> None:
        if not self.agreed.done():
            self.agreed.set_exception(OSError(why))


Ask = Callable[[Callable[[Message], None], Callable[[], None]], Awaitable[Speaks]]
"""Asks to follow. The first function then hears each message, the second that the way is lost. OSError, Unreachable."""


class Following:
    """Keeps `membership` at the one that `ask` finds; `leader` is its address, for the log."""

    def __init__(self, membership: Membership, leader: str, ask: Ask) -> None:
        self._membership = membership
        self._leader = leader
        self._ask = ask

    async def keep(self) -> None:
        """Follow until cancelled; again, and more and more patiently, when the other is away."""
        failures = 0
        while True:
            lost = asyncio.Event()
            channel: Speaks | None = None
            try:
                async with asyncio.timeout(ANSWERS_WITHIN_S):
                    channel = await self._ask(self._membership.heard, lost.set)
                log.info("follow.joined leader=%s", self._leader)
                failures = 0
                self._membership.channel = channel
                await lost.wait()
                log.warning("follow.lost leader=%s", self._leader)
            except (OSError, TimeoutError, Unreachable) as error:
                if not failures:
                    log.warning("follow.failed leader=%s reason=%r", self._leader, str(error) or "no answer")
                failures += 1
            finally:
                self._membership.channel = None
                if channel is not None:
                    channel.close()
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])


def at_proxy(leader: Target, token: str | None, make_context: Callable[[], SSLContext]) -> Ask:
    """The way to another proxy's API: a connection that is upgraded."""
    lines = [b"GET %s/api/follow HTTP/1.1" % leader.path, b"Host: " + leader.netloc]
    lines += [b"Connection: Upgrade", b"Upgrade: " + PROTOCOL]
    if token is not None:
        lines.append(b"Authorization: token " + token.encode())
    head = b"\r\n".join([*lines, b"", b""])

    async def ask(heard: Callable[[Message], None], lost: Callable[[], None]) -> Speaks:
        loop, channel = asyncio.get_running_loop(), Channel(heard, lost)

        def make() -> _Asking:
            return _Asking(head, channel)

        if leader.socket is not None:
            with pinned(leader.socket) as path:
                _, asking = await loop.create_unix_connection(make, path)
        else:
            context = make_context() if leader.tls else None
            named = leader.host if leader.tls else None
            made = loop.create_connection(make, leader.host, leader.port, ssl=context, server_hostname=named)
            _, asking = await made
        try:
            await asking.agreed
        except BaseException:
            with contextlib.suppress(OSError):
                asking._transport.abort()
            raise
        return channel

    return ask
