"""Load for proxies: a target that answers at once, and visitors that ask as asked. Clients and target share one process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar, cast

END = b"<end of answer>"
MB = 1024 * 1024
CONNECTIONS = 32
FRAME = b"\x82\xfe\x04\x00\x00\x00\x00\x00" + b"x" * 1024
"""A masked binary frame of 1 KiB, as a browser sends it. The target says the same bytes again."""

LARGE_FRAME = b"\x82\xff" + (65536).to_bytes(8, "big") + b"\x00" * 4 + b"x" * 65536

BROWSER = "".join(
    f"{name}: {value}\r\n"
    for name, value in {
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Referer": "https://hub.example.org/user/ada/lab/tree/notebooks/analysis.ipynb",
        "Cookie": "_xsrf="
        + "a" * 80
        + "; jupyterhub-session-id="
        + "b" * 32
        + "; jupyterhub-user-ada="
        + "c" * 150,
        "Sec-Fetch-Dest": "empty",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Site": "same-origin",
        "X-XSRFToken": "a" * 80,
        "Cache-Control": "no-store",
        "Pragma": "no-cache",
        "Priority": "u=1, i",
    }.items()
)
"""About 900 bytes, as JupyterLab's requests have them."""


class Target(asyncio.Protocol):
    """Answers `…/small` and `…/large`, and repeats all that comes after a switch of protocols."""

    answers: ClassVar = {
        name: b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for name, body in {b"/small": b"ok" + END, b"/large": b"x" * (MB - len(END)) + END}.items()
    }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one but in name
        self._head, self._switched = b"", False

    def data_received(self, data: bytes) -> None:
        if self._switched:
            self._transport.write(data)
            return
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path == b"/echo":
                self._switched = True
                self._transport.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                )
            else:
                self._transport.write(self.answers[path[path.rfind(b"/") :]])


class Visitor(asyncio.Protocol):
    """One connection; `ask` waits for an answer that ends as expected."""

    def __init__(self) -> None:
        self._tail = b""
        self._end, self._length, self._got = END, 0, 0
        self._answer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        self._tail = (self._tail + data)[-len(self._end) :] if self._end else b""
        if self._answer and not self._answer.done() and self._got >= self._length and self._tail == self._end:
            self._answer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed before the answer"))

    async def ask(self, data: bytes, *, end: bytes = END, length: int = 0) -> None:
        """Send; until at least `length` bytes have come and the last of them are `end`."""
        self._tail, self._end, self._length, self._got = b"", end, length, 0
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        await self._answer


def get(path: str, *, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{more}\r\n".encode()


UPGRADE = get(
    "/echo",
    more="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
)


@dataclass(frozen=True)
class Door:
    """Where a proxy is asked: its port, and how to speak TLS there if it does."""

    port: int
    tls: ssl.SSLContext | None = None

    async def visitor(self) -> Visitor:
        """A new connection."""
        loop = asyncio.get_running_loop()
        named = "localhost" if self.tls else None
        made = await loop.create_connection(
            Visitor, "127.0.0.1", self.port, ssl=self.tls, server_hostname=named
        )
        return made[1]


Case = Callable[[Door, int], Awaitable[None]]


async def each(connections: int, one: Callable[[], Awaitable[None]]) -> None:
    """`one` on so many connections at a time."""
    await asyncio.gather(*(one() for _ in range(connections)))


def asking(path: str, *, more: str = "", length: int = 0) -> Case:
    """GET over kept connections."""
    asked = get(path, more=more)

    async def case(door: Door, count: int) -> None:
        async def one() -> None:
            made = await door.visitor()
            for _ in range(count // CONNECTIONS):
                await made.ask(asked, length=length)
            made.transport.close()

        await each(CONNECTIONS, one)

    return case


def asking_each(routes: int, *, paths: int = 10_000) -> Case:
    """GET over kept connections, each request of another path than the last, and of the next of so many routes."""
    asked = [get(f"/user/u{number % routes}/{number}/small") for number in range(paths)]

    async def case(door: Door, count: int) -> None:
        numbers = iter(range(count))

        async def one() -> None:
            made = await door.visitor()
            for number in numbers:
                await made.ask(asked[number % paths])
            made.transport.close()

        await each(CONNECTIONS, one)

    return case


async def fresh(door: Door, count: int) -> None:
    """GET over a connection of its own each."""

    async def one() -> None:
        for _ in range(count // CONNECTIONS):
            made = await door.visitor()
            await made.ask(get("/small", more="Connection: close\r\n"))
            made.transport.close()

    await each(CONNECTIONS, one)


def echoing(frame: bytes, connections: int) -> Case:
    """A frame there and back over WebSockets."""

    async def case(door: Door, count: int) -> None:
        async def one() -> None:
            made = await door.visitor()
            await made.ask(UPGRADE, end=b"\r\n\r\n")
            for _ in range(count // connections):
                await made.ask(frame, end=frame[-16:], length=len(frame))
            made.transport.close()

        await each(connections, one)

    return case


SMALL = asking("/small")
CASES: dict[str, tuple[Case, int]] = {
    "small GET, kept connection": (SMALL, 9600),
    "the same, a browser's headers": (asking("/small", more=BROWSER), 9600),
    "1 MB answers": (asking("/large", length=MB), 640),
    "a new connection per request": (fresh, 3200),
    "WebSocket echo, 1 KiB, 500 open": (echoing(FRAME, 500), 15000),
    "WebSocket echo, 64 KiB": (echoing(LARGE_FRAME, CONNECTIONS), 3200),
}
