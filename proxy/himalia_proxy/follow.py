"""Following another proxy: its table and every change of it, over an upgraded connection to its API.

So a proxy is added by starting it. What it counts, and which routes are used through it, reaches the one it follows,
and so the hub. While that one is away, it serves by what it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from ssl import SSLContext
from typing import Final, cast

from himalia_proxy.channel import Channel
from himalia_proxy.core import log
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


class Following:
    """Keeps `membership` at the proxy whose API is `leader`. `first` is set with the first table."""

    def __init__(
        self,
        membership: Membership,
        leader: Target,
        token: str | None,
        make_context: Callable[[], SSLContext],
    ) -> None:
        self._membership = membership
        self._leader = leader
        self._make_context = make_context
        lines = [b"GET %s/api/follow HTTP/1.1" % leader.path, b"Host: " + leader.netloc]
        lines += [b"Connection: Upgrade", b"Upgrade: " + PROTOCOL]
        if token is not None:
            lines.append(b"Authorization: token " + token.encode())
        self._head = b"\r\n".join([*lines, b"", b""])

    async def keep(self) -> None:
        """Follow until cancelled; again, and more and more patiently, when the other is away."""
        failures = 0
        while True:
            lost = asyncio.Event()
            channel = Channel(self._membership.heard, lost.set)
            try:
                async with asyncio.timeout(ANSWERS_WITHIN_S):
                    await self._ask(channel)
                log.info("follow.joined leader=%s", self._leader.url)
                failures = 0
                self._membership.channel = channel
                await lost.wait()
                log.warning("follow.lost leader=%s", self._leader.url)
            except (OSError, TimeoutError) as error:
                if not failures:
                    log.warning(
                        "follow.failed leader=%s reason=%r", self._leader.url, str(error) or "no answer"
                    )
                failures += 1
            finally:
                self._membership.channel = None
                channel.close()
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])

    async def _ask(self, channel: Channel) -> None:
        loop, leader = asyncio.get_running_loop(), self._leader

        def make() -> _Asking:
            return _Asking(self._head, channel)

        if leader.socket is not None:
            with pinned(leader.socket) as path:
                _, asking = await loop.create_unix_connection(make, path)
        else:
            context = self._make_context() if leader.tls else None
            named = leader.host if leader.tls else None
            made = loop.create_connection(make, leader.host, leader.port, ssl=context, server_hostname=named)
            _, asking = await made
        try:
            await asking.agreed
        except BaseException:
            with contextlib.suppress(OSError):
                asking._transport.abort()
            raise
