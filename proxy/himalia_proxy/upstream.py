"""The client's side: connections to targets, kept and reused per origin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from ssl import SSLContext
from typing import Final, Protocol, cast

from himalia_proxy.chunked import ChunkedBody
from himalia_proxy.errors import BadResponse, Unreachable
from himalia_proxy.framing import CHUNKED, MAX_HEAD, UNTIL_CLOSE, ResponseHead, parse_response
from himalia_proxy.sockets import pinned
from himalia_proxy.target import Target

CONNECT_TIMEOUT_S: Final = 10.0
IDLE_S: Final = 20.0
# A request that cannot be sent twice goes only over a connection used this recently: a server that
# closes idle connections must not cost anybody a save.
FRESH_S: Final = 1.0
MAX_IDLE_PER_ORIGIN: Final = 128

_IDLE, _HEAD, _BODY, _SWITCHED, _GONE = range(5)


class Sink(Protocol):
    """Who waits for an answer. Exactly one of `answer_end`, `answer_lost`, `switched` is called last,
    unless `answer_begin` says it has ended.
    """

    def interim(self, head: ResponseHead) -> None:
        """A 1xx head other than 101."""

    def switched(self, connection: Upstream, head: ResponseHead, early: bytes) -> None:
        """101: the connection is the sink's now, `early` are bytes behind the head."""

    def answer_begin(self, head: ResponseHead, data: bytes, *, ended: bool) -> None:
        """The head, and what came with it of the body."""

    def answer_data(self, data: bytes) -> None:
        """More of the body."""

    def answer_end(self) -> None:
        """The body is complete."""

    def answer_lost(self, why: str, *, untouched: bool) -> None:
        """There will be no (more) answer. `untouched`: a reused connection ended before its first byte."""

    def pause_body(self) -> None:
        """The target takes no more of the request's body for now."""

    def resume_body(self) -> None:
        """It does again."""


class Upstream(asyncio.Protocol):
    """One connection to a target, with at most one exchange on it."""

    __slots__ = (
        "_chunks",
        "_decode",
        "_held",
        "_keep",
        "_left",
        "_paused",
        "_phase",
        "_pool",
        "_reused",
        "_sink",
        "_to_head",
        "idle_since",
        "origin",
        "transport",
        "waiting_since",
        "whole",
    )

    def __init__(self, pool: Pool, origin: str) -> None:
        self._pool = pool
        self.origin = origin
        self.transport: asyncio.Transport
        self.idle_since = 0.0
        self.waiting_since = 0.0
        self.whole = True  # the request has been sent to its end
        self._sink: Sink | None = None
        self._phase = _IDLE
        self._held = b""
        self._left = 0
        self._chunks: ChunkedBody | None = None
        self._decode = False
        self._to_head = False
        self._keep = True
        self._reused = False
        self._paused = False

    def begin(self, sink: Sink, head: bytes, *, to_head: bool, whole: bool, decode: bool) -> None:
        """Send a request's head and report the answer to `sink`. `decode`: chunks are unpacked."""
        self._sink = sink
        self._phase = _HEAD
        self._to_head = to_head
        self._decode = decode
        self.whole = whole
        self.waiting_since = self._pool.loop.time()
        self.transport.write(head)

    def abort(self) -> None:
        """Cut the connection; the sink hears nothing more."""
        self._sink = None
        self._phase = _GONE
        self._pool.forget(self)
        self.transport.abort()

    def pause(self) -> None:
        """Take no more of the answer for now."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Take more of the answer."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    # -- events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        if self._sink is not None:
            self._sink.pause_body()

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.resume_body()

    def data_received(self, data: bytes) -> None:
        try:
            if self._phase == _BODY:
                self._body(data)
            elif self._phase == _HEAD:
                self._head(self._held + data if self._held else data)
            else:
                # Nobody asked: whatever it is, the next request must not take it for its answer.
                self.abort()
        except BadResponse as error:
            self._lose(f"the target's answer is invalid: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.forget(self)
        if self._phase == _BODY and self._left == UNTIL_CLOSE and error is None:
            self._finish()
        elif self._sink is not None:
            why = "the target closed the connection" if error is None else f"the target was lost: {error}"
            self._lose(why)
        self._phase = _GONE

    def _lose(self, why: str) -> None:
        sink = self._sink
        untouched = self._phase == _HEAD and self._reused and not self._held
        self.abort()
        if sink is not None:
            sink.answer_lost(why, untouched=untouched)

    def overdue(self) -> None:
        """The target has not answered in the time it was given."""
        self._lose("the target did not answer in time")

    @property
    def awaited(self) -> bool:
        """Whether a head is due."""
        return self._phase == _HEAD

    # -- the answer

    def _head(self, data: bytes) -> None:
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(data) > MAX_HEAD:
                    raise BadResponse("its head is too large")
                self._held = data
                return
            self._held = data
            head = parse_response(data[:end], to_head=self._to_head)
            data = data[end:]
            self._held = b""
            sink = self._sink
            assert sink is not None
            if head.status == 101:
                self._phase = _SWITCHED
                self._sink = None
                sink.switched(self, head, data)
                return
            if head.status >= 200:
                break
            sink.interim(head)
        self._answer(sink, head, data)

    def _answer(self, sink: Sink, head: ResponseHead, data: bytes) -> None:
        self._keep = head.keep_alive
        self._left = head.body
        self._phase = _BODY
        if head.body == CHUNKED:
            self._chunks = ChunkedBody(decode=self._decode, trailers=not self._decode)
            data, rest = self._feed(data)
            ended = self._chunks.done
        elif head.body == UNTIL_CLOSE:
            rest, ended = b"", False
        else:
            data, rest = data[: head.body], data[head.body :]
            self._left -= len(data)
            ended = not self._left
        if ended:
            self._detach(rest)
        sink.answer_begin(head, data, ended=ended)

    def _body(self, data: bytes) -> None:
        sink = self._sink
        assert sink is not None
        rest = b""
        if self._chunks is not None:
            data, rest = self._feed(data)
            ended = self._chunks.done
        elif self._left == UNTIL_CLOSE:
            ended = False
        else:
            if len(data) > self._left:
                data, rest = data[: self._left], data[self._left :]
            self._left -= len(data)
            ended = not self._left
        if ended:
            self._detach(rest)
        if data:
            sink.answer_data(data)
        if ended:
            sink.answer_end()

    def _feed(self, data: bytes) -> tuple[bytes, bytes]:
        assert self._chunks is not None
        try:
            return self._chunks.feed(data)
        except ValueError as error:
            raise BadResponse(str(error)) from None

    def _finish(self) -> None:
        sink = self._sink
        self._sink = None
        if sink is not None:
            sink.answer_end()

    def _detach(self, rest: bytes) -> None:
        """Give the connection back before the sink hears of the end: it may want it for the next request."""
        self._sink = None
        self._chunks = None
        self._phase = _IDLE
        if rest or not self._keep or not self.whole:
            self.abort()
            return
        self._reused = True
        self.resume()
        self._pool.give_back(self)


class Pool:
    """Open connections that wait for a request, by origin; the one used last is taken first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make_context: Callable[[], SSLContext]) -> None:
        self.loop = loop
        self._make_context = make_context
        self._idle: dict[str, list[Upstream]] = {}
        self.open: set[Upstream] = set()
        self._context: SSLContext | None = None

    def take(self, origin: str, *, fresh: bool) -> Upstream | None:
        """An idle connection, or None. `fresh`: only one used within the last FRESH_S seconds."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle[-1]
            if fresh and self.loop.time() - connection.idle_since > FRESH_S:
                return None
            idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def give_back(self, connection: Upstream) -> None:
        """Keep a connection for the next request to its origin."""
        idle = self._idle.setdefault(connection.origin, [])
        if len(idle) >= MAX_IDLE_PER_ORIGIN:
            connection.abort()
            return
        connection.idle_since = self.loop.time()
        idle.append(connection)

    def forget(self, connection: Upstream) -> None:
        """Drop what is known of a connection that is closed or given away."""
        self.open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle is not None:
            with contextlib.suppress(ValueError):
                idle.remove(connection)
            if not idle:
                del self._idle[connection.origin]

    def tick(self, now: float, *, answer_within_s: float = 0) -> None:
        """Close what has been idle for long, and what has not answered if there is a limit."""
        for connection in [
            one for idle in self._idle.values() for one in idle if now - one.idle_since > IDLE_S
        ]:
            connection.abort()
        for origin in [origin for origin, idle in self._idle.items() if not idle]:
            del self._idle[origin]
        if answer_within_s:
            for connection in [
                one for one in self.open if one.awaited and one.waiting_since + answer_within_s < now
            ]:
                connection.overdue()

    def close(self) -> None:
        """Cut everything."""
        for connection in list(self.open):
            connection.abort()

    async def connect(self, target: Target) -> Upstream:
        """A new connection; Unreachable if there is none within CONNECT_TIMEOUT_S seconds."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await self._open(target)
        except TimeoutError:
            raise Unreachable(f"no connection to {target.url} within {CONNECT_TIMEOUT_S:g} s") from None
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"no connection to {target.url}: {error}") from None
        self.open.add(connection)
        return connection

    async def _open(self, target: Target) -> Upstream:
        def make() -> Upstream:
            return Upstream(self, target.origin)

        if target.socket is not None:
            with pinned(target.socket) as path:
                return (await self.loop.create_unix_connection(make, path))[1]
        if not target.tls:
            return (await self.loop.create_connection(make, target.host, target.port))[1]
        # Verified by the target's own name, whatever Host the client sends.
        made = self.loop.create_connection(
            make, target.host, target.port, ssl=self._tls(), server_hostname=target.host
        )
        return (await made)[1]

    def renew_tls(self) -> None:
        """Make new connections by what the certificate files say now. StartError leaves it as it was."""
        self._context = self._make_context()

    def _tls(self) -> SSLContext:
        if self._context is None:
            self.renew_tls()
        assert self._context is not None
        return self._context
