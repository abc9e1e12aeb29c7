"""The server's side of an HTTP/1 connection: heads and body framing, one request at a time.

No task and no stream object per request: bytes come in, methods are called. The public listener and the
API listener are two subclasses.
"""

from __future__ import annotations

import asyncio
import select
from typing import Final, cast

from himalia_proxy.chunked import ChunkedBody
from himalia_proxy.errors import BadRequest
from himalia_proxy.framing import (
    CHUNKED,
    MAX_HEAD,
    Headers,
    RequestHead,
    find_head,
    parse_request,
)
from himalia_proxy.headers import own_head
from himalia_proxy.tally import Tally

HEAD_TIMEOUT_S: Final = 60.0
FIRST_WORDS_S: Final = 1.0
LINGER_S: Final = 3.0
FLUSH_S: Final = 120.0
MAX_AHEAD: Final = 64 * 1024

READ_HEAD, READ_BODY, ANSWERING, LINGERING, CLOSED = range(5)


class Connections:
    """The open connections of one listener, and the deadlines that a shared tick enforces.

    `most_head` is in bytes. `per_address`: connections that one address may have at a time, by `tally`.
    """

    def __init__(
        self,
        *,
        keep_alive_s: float = 5.0,
        most_head: int = MAX_HEAD,
        per_address: int = 0,
        tally: Tally | None = None,
    ) -> None:
        self.open: set[ServerConnection] = set()
        self.keep_alive_s = keep_alive_s
        self.most_head = most_head
        self.draining = False
        self._per_address = per_address
        self._tally = tally

    def enter(self, address: object) -> bool:
        """Whether one more connection from `address` may be had; if so, `leave` must follow."""
        if self._tally is None or not isinstance(address, str):
            return True
        if self._tally.enter(address) > self._per_address:
            self._tally.leave(address)
            return False
        return True

    def leave(self, address: object) -> None:
        """A connection from `address` has ended, as a tunnel or before."""
        if self._tally is not None and isinstance(address, str):
            self._tally.leave(address)

    def tick(self, now: float) -> None:
        """Cut what has let its deadline pass."""
        for connection in [one for one in self.open if 0 < one.deadline < now]:
            connection.overdue()
        for connection in [one for one in self.open if one.left_unseen]:
            connection.transport.abort()

    def drain(self, now: float) -> None:
        """Close idle connections; those with a request under way close after its answer.

        One that has asked nothing yet was accepted a moment ago, and its request is on its way: it is waited for.
        """
        self.draining = True
        for connection in list(self.open):
            if connection.phase != READ_HEAD:
                continue
            if connection.fresh:
                connection.deadline = now + FIRST_WORDS_S
            else:
                connection.close()


class ServerConnection(asyncio.Protocol):
    """Reads requests and hands them to a subclass: `request_begun`, `request_data`, and on the way out
    `respond` or `transport.write` followed by `answer_done`.
    """

    __slots__ = (
        "_chunks",
        "_looping",
        "_reading_paused",
        "ahead",
        "connections",
        "deadline",
        "fresh",
        "hold",
        "left",
        "loop",
        "phase",
        "request",
        "tls",
        "transport",
        "write_paused",
    )

    def __init__(
        self, connections: Connections, loop: asyncio.AbstractEventLoop, *, tls: bool = False
    ) -> None:
        self.connections = connections
        self.loop = loop
        self.tls = tls
        self.transport: asyncio.Transport = _NO_TRANSPORT
        self.phase = READ_HEAD
        self.request: RequestHead = _NO_REQUEST
        self.ahead = b""  # bytes that came before they could be used
        self.fresh = True  # no request has come yet
        self.hold = False  # the body must wait: nobody takes it yet
        self.left = 0
        self.deadline = 0.0
        self.write_paused = False
        self._chunks: ChunkedBody | None = None
        self._reading_paused = False
        self._looping = False

    # -- what a subclass fills in

    def request_begun(self, request: RequestHead) -> None:
        """A head was read. Its body follows through `request_data` unless `request.body` is 0."""
        raise NotImplementedError

    def request_data(self, data: bytes, *, last: bool) -> None:
        """A piece of the body, raw as it came."""
        raise NotImplementedError

    def request_broken(self) -> None:
        """The body cannot be understood any more, or the client is gone: end what was begun."""

    # -- events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.connections.open.add(self)
        self.deadline = self.loop.time() + HEAD_TIMEOUT_S

    def data_received(self, data: bytes) -> None:
        if self.phase == READ_BODY and not self.hold:
            self._body(data)
            return
        if self.phase >= LINGERING:
            return
        if self.phase == READ_HEAD and not self.ahead:
            self.deadline = 0.0  # what was granted for idling is not for the head
        self.ahead = self.ahead + data if self.ahead else data
        if self.phase == READ_HEAD:
            self._next()
        if len(self.ahead) > MAX_AHEAD and self.phase != READ_HEAD:
            self.pause_reading()

    def eof_received(self) -> bool | None:
        # A half-closed client is taken for a gone one, as nginx and Go do: nothing else tells a closed
        # tab from a waiting one, and its request would keep a server busy for nobody.
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self.phase = CLOSED
        self.deadline = 0.0
        self.connections.open.discard(self)
        self.request_broken()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False

    def overdue(self) -> None:
        """The deadline has passed: an idle or slow client is let go, a lingering one cut."""
        if self.phase == READ_HEAD and self.ahead:
            self.refuse(BadRequest("The request head took too long.", 408))
        elif self.phase == READ_HEAD:
            self.close()
        else:
            self.transport.abort()

    # -- reading

    def _next(self) -> None:
        self._looping = True
        try:
            while self.phase == READ_HEAD and self.ahead:
                if not self._begin_request():
                    return
        finally:
            self._looping = False

    def _begin_request(self) -> bool:
        if self.ahead.startswith(b"\r\n"):
            self.ahead = self.ahead[2:]
        try:
            size = find_head(self.ahead, self.connections.most_head)
            if not size:
                # Set once per head, or a byte a minute would hold a connection for ever.
                self.deadline = self.deadline or self.loop.time() + HEAD_TIMEOUT_S
                return False
            head, self.ahead = self.ahead[:size], self.ahead[size:]
            request = parse_request(head)
        except BadRequest as error:
            self.refuse(error)
            return False
        self.request = request
        self.fresh = False
        self.deadline = 0.0
        self.hold = False
        if request.body:
            self.phase = READ_BODY
            self.left = request.body
            self._chunks = ChunkedBody() if request.body == CHUNKED else None
        else:
            self.phase = ANSWERING
        self.request_begun(request)
        if self.phase == READ_BODY and not self.hold and self.ahead:
            data, self.ahead = self.ahead, b""
            self._body(data)
        return True

    def release_body(self) -> None:
        """Somebody takes the body now."""
        self.hold = False
        if self.phase == READ_BODY and self.ahead:
            data, self.ahead = self.ahead, b""
            self._body(data)
        self.resume_reading()

    def _body(self, data: bytes) -> None:
        if self._chunks is None:
            last = len(data) >= self.left
            part, rest = (data[: self.left], data[self.left :]) if last else (data, b"")
            self.left -= len(part)
        else:
            try:
                part, rest = self._chunks.feed(data)
            except ValueError as error:
                self.body_refused(BadRequest(f"The request body is malformed: {error}."))
                return
            last = self._chunks.done
        if last:
            self.phase = ANSWERING
            self.ahead = rest
        if part or last:
            self.request_data(part, last=last)

    def body_refused(self, error: BadRequest) -> None:
        """Take no more of a body that is malformed or too large."""
        answered = self.answered
        self.request_broken()
        if answered:
            self.transport.abort()
        else:
            self.refuse(error)

    @property
    def answered(self) -> bool:
        """Whether a head was already sent for the current request."""
        return False

    def pause_reading(self) -> None:
        """Take no more from the client for now."""
        if not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    @property
    def left_unseen(self) -> bool:
        """Whether the client has gone while nothing was read from it: the loop tells only who reads."""
        if not self._reading_paused or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def resume_reading(self) -> None:
        """Take from the client again."""
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    # -- answering

    @property
    def must_close(self) -> bool:
        """Whether the connection cannot serve another request after this answer."""
        return not self.request.keep_alive or self.phase != ANSWERING or self.connections.draining

    def respond(self, status: int, headers: Headers, body: bytes = b"", *, close: bool = False) -> None:
        """Give an answer of the proxy's own."""
        close = close or self.must_close
        head = own_head(status, headers, len(body), close=close)
        self.transport.write(head if self.request.method == b"HEAD" else head + body)
        self.answer_done(close=close)

    def refuse(self, error: BadRequest) -> None:
        """Answer a request that is not understood, and read nothing more from this client."""
        body = f"{error}\n".encode()
        self.transport.write(
            own_head(error.status, [(b"Content-Type", b"text/plain")], len(body), close=True) + body
        )
        self._linger()

    def answer_done(self, *, close: bool) -> None:
        """The answer is written: go on to the next request, or close."""
        if self.phase >= LINGERING:
            return
        if close:
            if self.phase == READ_BODY or self.ahead:
                self._linger()
            else:
                self.close()
            return
        self.phase = READ_HEAD
        self.request = _NO_REQUEST
        self.resume_reading()
        self.deadline = self.loop.time() + self.connections.keep_alive_s
        if self.ahead and not self._looping:
            self.deadline = 0.0
            self._next()

    def _linger(self) -> None:
        """Say no more, but let the client finish sending: a reset could overtake the answer on its way."""
        self.phase = LINGERING
        self.ahead = b""
        self.hold = False
        self.resume_reading()
        if self.tls or not self.transport.can_write_eof():
            self.close()
            return
        pending = self.transport.get_write_buffer_size()
        self.transport.write_eof()
        self.deadline = self.loop.time() + (FLUSH_S if pending else LINGER_S)

    def close(self) -> None:
        """Close once everything written has left."""
        if self.phase != CLOSED:
            self.phase = LINGERING
            self.deadline = self.loop.time() + FLUSH_S
            self.transport.close()


class _NoTransport(asyncio.Transport):
    """Stands in until there is a connection."""

    def is_closing(self) -> bool:
        return True


_NO_TRANSPORT: Final = _NoTransport()
_NO_REQUEST: Final = RequestHead(b"", b"", 1)
