"""What every WebSocket of this server needs: a place on the list, a pulse, and an end that cannot hang."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import structlog
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from himalia_singleuser.keys import MAY_STAY, SETTINGS, SOCKETS
from himalia_singleuser.lingering import LingeringHandler

log = structlog.get_logger(__name__)

MOST_UNANSWERED = 4
"""Pings in a row. Counted and not timed: a server that was suspended itself must not blame its browsers."""
CLOSE_S = 5.0
CHECK_S = 3.0
MAX_FRAME_BYTES = 128 * 1024 * 1024


class Socket:
    """One open WebSocket. Text arrives as bytes: what is only passed on is never decoded."""

    def __init__(self, ws: web.WebSocketResponse, request: web.Request) -> None:
        self.ws = ws
        self.transport = request.transport
        self.path = request.path
        assert isinstance(request.protocol, LingeringHandler), (
            "the application is served by a LingeringRunner"
        )
        self._protocol = request.protocol
        self._heard = 0
        self._unanswered = 0

    async def frames(self) -> AsyncIterator[tuple[bytes, bool]]:
        """(payload, is_text) until the peer is gone. Answers pings."""
        while True:
            message: WSMessage = await self.ws.receive()
            match message.type:
                case WSMsgType.TEXT:
                    yield message.data, True
                case WSMsgType.BINARY:
                    yield message.data, False
                case WSMsgType.PING:
                    await self.ws.pong(message.data)
                case WSMsgType.PONG:
                    continue
                case _:
                    return

    async def send(self, payload: bytes, *, text: bool) -> None:
        """Write one frame; waits while the peer reads too slowly. ConnectionError when it is gone."""
        await self.ws.send_frame(payload, WSMsgType.TEXT if text else WSMsgType.BINARY)

    def write(self, frames: Iterable[tuple[bytes, bool]]) -> None:
        """Give frames, (payload, is_text), to the system at once; await `drained` before the next.

        ConnectionError when the peer is gone: then nothing of them was written. One call for all of them, because each
        wakes the peer, or the proxy before it, which in a burst takes the processor from the kernel.
        """
        if self.ws.closed or self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the WebSocket is closed")
        self.transport.writelines(
            [piece for payload, text in frames for piece in (_head(len(payload), text), payload)]
        )

    @property
    def is_slow(self) -> bool:
        """Whether `drained` would wait."""
        return self._protocol.is_paused

    async def drained(self) -> None:
        """Return once the peer reads fast enough; ConnectionError when it is gone."""
        await self._protocol.drained()

    async def close(self, code: int = WSCloseCode.OK, reason: str = "") -> None:
        """Say goodbye, but not for longer than `CLOSE_S`: a peer that reads nothing is cut off."""
        # A close frame holds at most 125 bytes, two of them the code (RFC 6455 §5.5).
        said = reason.encode()[:123].decode(errors="ignore").encode()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.ws.close(code=code, message=said)
        except TimeoutError:
            self.cut()

    def cut(self) -> None:
        """Drop the connection with whatever is still waiting to be written."""
        if self.transport is not None:
            self.transport.abort()

    async def keep_alive(self, ping_s: float) -> None:
        """Ping every `ping_s`, so that no proxy on the way falls asleep; cut a peer that is gone without a word.

        It is found at most `(MOST_UNANSWERED + 1) * ping_s` after its last sign of life, even while a frame for it is
        stuck half-written.
        """
        while not self.ws.closed:
            await asyncio.sleep(ping_s)
            self._note_signs_of_life()
            if self._unanswered >= MOST_UNANSWERED:
                log.info("socket.peer_vanished", path=self.path, pings=self._unanswered)
                self.cut()
                return
            self._unanswered += 1
            # Awaited no further than the writing of it: what waits before it must not stop the counting.
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(0):
                    await self.ws.ping()

    def _note_signs_of_life(self) -> None:
        """Pongs, and any other bytes: the answer may be behind a frame that comes slowly."""
        if self._protocol.reads != self._heard:
            self._heard, self._unanswered = self._protocol.reads, 0

    async def end_when_unwelcome(self, may_stay: Callable[[], Awaitable[bool]]) -> None:
        """Ask every `CHECK_S` whether its visitor may stay, and close it when not. Nothing more is passed on then."""
        while await may_stay():
            await asyncio.sleep(CHECK_S)
        await self.close(WSCloseCode.POLICY_VIOLATION, "you may not use this server any more")


def _head(size: int, text: bool) -> bytes:
    """The head of a whole, unmasked frame (RFC 6455 §5.2)."""
    first = 0x80 | (WSMsgType.TEXT if text else WSMsgType.BINARY)
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


@asynccontextmanager
async def accept(
    request: web.Request, *, protocols: Iterable[str] = (), max_bytes: int = MAX_FRAME_BYTES
) -> AsyncIterator[Socket]:
    """Upgrade the request and own the socket until the block ends.

    Compression stays off: outputs are mostly images that do not shrink, and the latency of small
    frames is what a person feels.
    """
    ws = web.WebSocketResponse(
        protocols=tuple(protocols),
        autoping=False,
        compress=False,
        max_msg_size=max_bytes,
        decode_text=False,
    )
    await ws.prepare(request)
    socket = Socket(ws, request)
    listed = request.app.get(SOCKETS)
    if listed is not None:
        listed.add(ws)
    tasks = [asyncio.create_task(socket.keep_alive(request.app[SETTINGS].ping_s))]
    if MAY_STAY in request:
        tasks.append(asyncio.create_task(socket.end_when_unwelcome(request[MAY_STAY])))
    try:
        yield socket
    finally:
        for task in tasks:
            task.cancel()
        if listed is not None:
            listed.discard(ws)
        await socket.close()


def wants_upgrade(request: web.Request) -> bool:
    """Whether the client asks for a WebSocket; anything else on such a path is a mistake worth a 400."""
    return request.headers.get("Upgrade", "").lower() == "websocket"
