"""A client's connection to the public port: look up, forward, relay."""

from __future__ import annotations

import asyncio
import time
from time import perf_counter

from himalia_proxy.core import Core, log
from himalia_proxy.errors import BadRequest, Unreachable
from himalia_proxy.framing import UNTIL_CLOSE, Headers, RequestHead, ResponseHead
from himalia_proxy.headers import REDIRECTS, forward_head, moved, own_head, relay_head
from himalia_proxy.pages import ErrorPages
from himalia_proxy.serving import ANSWERING, READ_BODY, READ_HEAD, ServerConnection
from himalia_proxy.table import Way
from himalia_proxy.tunnel import login_of, tokens_of
from himalia_proxy.upstream import Upstream

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))


class Downstream(ServerConnection):
    """One client. While a request is under way it is the sink of one upstream connection."""

    __slots__ = (
        "_address",
        "_answered",
        "_began",
        "_client",
        "_close",
        "_core",
        "_head",
        "_pages",
        "_received",
        "_rechunk",
        "_retry",
        "_sent",
        "_status",
        "_task",
        "_up",
        "_way",
    )

    def __init__(self, core: Core, pages: ErrorPages, *, tls: bool = False) -> None:
        super().__init__(core.clients, core.loop, tls=tls)
        self._core = core
        self._pages = pages
        self._address: str | None = None
        self._client = b""
        self._began = 0.0
        self._received = self._sent = 0
        self._up: Upstream | None = None
        self._task: asyncio.Task[None] | None = None
        self._way: Way | None = None
        self._head = b""
        self._retry = False
        self._answered = False
        self._rechunk = False
        self._close = False
        self._status = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else None
        self._client = address.encode() if address else b""
        if self.connections.enter(address):
            self._address = address
        else:
            self.refuse(BadRequest("Too many connections from this address.", 429))

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._leave()

    def _leave(self) -> None:
        self.connections.leave(self._address)
        self._address = None

    # -- the request

    def request_begun(self, request: RequestHead) -> None:
        self._answered = False
        self._way = None
        self._status = self._received = self._sent = 0
        if request.target == b"/_chp_healthz":
            self.respond(200, [(b"Content-Type", b"application/json")], b'{"status":"OK"}')
            return
        core = self._core
        if core.access is not None:
            self._began = time.time()
        if core.limits.most_body and request.body > core.limits.most_body:
            self.refuse(_too_large(core.limits.most_body))
            return
        counts = core.counts
        if request.upgrade is None:
            counts.web += 1
        else:
            counts.ws += 1
        began = perf_counter()
        try:
            way = core.table.way(request.host, request.target)
        except ValueError as error:
            self.refuse(BadRequest(f"The request path is malformed: {error}."))
            return
        counts.lookups += 1
        counts.lookup_s += perf_counter() - began
        if way is None:
            self._fail(404, "no route")
            return
        self._way = way
        target = way.entry.target
        self._head = forward_head(request, way.path, target, core.rules, client=self._client, tls=self.tls)
        self._retry = not request.body and request.method in SAFE
        up = core.pool.take(target.origin, fresh=not self._retry)
        if up is None:
            self._connect()
        else:
            self._send(up)

    def _connect(self) -> None:
        self.hold = True
        self._task = self.loop.create_task(self._connected())

    async def _connected(self) -> None:
        assert self._way is not None
        try:
            up = await self._core.pool.connect(self._way.entry.target)
        except Unreachable as error:
            self._task = None
            self._fail(503, str(error))
            return
        self._task = None
        self._send(up)
        self.release_body()

    def _send(self, up: Upstream) -> None:
        self._up = up
        request = self.request
        up.begin(
            self,
            self._head,
            to_head=request.method == b"HEAD",
            whole=not request.body,
            decode=request.version == 0,
        )

    def request_data(self, data: bytes, *, last: bool) -> None:
        up = self._up
        if up is None:
            return
        assert self._way is not None
        self._way.entry.last_activity = time.time()
        most = self._core.limits.most_body
        if most:
            self._received += len(data)
            if self._received > most:
                self.body_refused(_too_large(most))
                return
        up.transport.write(data)
        if last:
            up.whole = True

    def request_broken(self) -> None:
        if self._way is not None:
            self._log()
        task, up = self._task, self._up
        self._task = self._up = None
        if task is not None:
            task.cancel()
        if up is not None:
            up.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._alive()

    def _alive(self) -> None:
        """`--timeout`: how long a client's connection may be silent while a request is under way."""
        limit = self._core.limits.client_silent_s
        if limit and self.phase in (READ_BODY, ANSWERING):
            self.deadline = self.loop.time() + limit

    # -- the answer: the Sink of an upstream connection

    @property
    def answered(self) -> bool:
        return self._answered

    def interim(self, head: ResponseHead) -> None:
        if self.request.version == 1:
            self.transport.write(relay_head(head, version=1, close=False))

    def switched(self, connection: Upstream, head: ResponseHead, early: bytes) -> None:
        if self.request.upgrade is None:
            self._up = None
            connection.abort()
            self._fail(503, "the target switched protocols unasked")
            return
        assert self._way is not None
        entry = self._way.entry
        entry.last_activity = time.time()
        counts = self._core.counts
        counts.touched += 1
        counts.proxied[101] += 1
        self._up = None
        self._core.pool.forget(connection)
        self._core.clients.open.discard(self)
        self.resume_reading()
        client = self.transport
        self._status = 101
        self._log()
        login = login_of(self.request.headers, self._core.login_cookie)
        framed = self.request.upgrade.lower() == b"websocket"
        near = self._core.tunnels.join(
            client,
            connection.transport,
            entry,
            tls=self.tls,
            framed=framed,
            login=login,
            tokens=tokens_of(self.request),
            gone=self._leave,
        )
        client.write(relay_head(head, version=1, close=False))
        if early:
            near.other.data_received(early)
        # What the client sent along with its handshake belongs to the new protocol.
        if self.ahead:
            near.data_received(self.ahead)
            self.ahead = b""

    def answer_begin(self, head: ResponseHead, data: bytes, *, ended: bool) -> None:
        request = self.request
        self._answered = True
        status = self._status = head.status
        core = self._core
        core.counts.proxied[status] += 1
        if status in REDIRECTS and core.rules.rewrites and self._way is not None:
            target = self._way.entry.target
            head.headers = [
                (
                    name,
                    moved(value, target, request.host, core.rules) if name.lower() == b"location" else value,
                )
                for name, value in head.headers
            ]
        self._rechunk = head.body == UNTIL_CLOSE and request.version == 1
        # An answer that overtakes its request ends the connection: the rest of the body may never come.
        self._close = self.must_close or request.upgrade is not None
        out = relay_head(head, version=request.version, close=self._close)
        self._sent += len(data)
        if data:
            out += b"%x\r\n%s\r\n" % (len(data), data) if self._rechunk else data
        self.transport.write(out)
        if ended:
            self.answer_end()
        elif self.write_paused and self._up is not None:
            self._up.pause()

    def answer_data(self, data: bytes) -> None:
        self._sent += len(data)
        if self._rechunk:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        self.transport.write(data)
        self._alive()

    def answer_end(self) -> None:
        self._up = None
        if self._rechunk:
            self._rechunk = False
            self.transport.write(b"0\r\n\r\n")
        if self._status < 300 and self._way is not None:
            self._core.counts.touched += 1
            self._way.entry.last_activity = time.time()
        self._log()
        self.answer_done(close=self._close)

    def answer_lost(self, why: str, *, untouched: bool) -> None:
        self._up = None
        if self._answered:
            log.warning("answer.cut path=%s reason=%r", _shown(self.request), why)
            self._log()
            # The client must be able to tell a cut answer from a complete one: framed, a plain close is
            # enough, and lets through what was written; unframed, only a reset says it.
            if self.request.version == 1:
                self.close()
            else:
                self.transport.abort()
        elif untouched and self._retry:
            self._retry = False
            self._connect()
        else:
            self._fail(503, why)

    def pause_body(self) -> None:
        self.pause_reading()

    def resume_body(self) -> None:
        self.resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._up is not None:
            self._up.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._up is not None:
            self._up.resume()

    def _log(self) -> None:
        """One line of access log, when it is known how the request ended."""
        way, self._way = self._way, None
        access = self._core.access
        if access is None:
            return
        request = self.request
        access.write(
            began=self._began,
            client=self._client,
            method=request.method,
            host=request.host,
            path=_logged(request),
            status=self._status,
            size=self._sent,
            route=way.entry.path if way is not None else None,
        )

    # -- failures

    def refuse(self, error: BadRequest) -> None:
        self._core.counts.refused += 1
        if self.phase == READ_HEAD:
            self._began, self._status = time.time(), 0
        if self._status != error.status:  # otherwise `body_refused` has told it
            self._status = error.status
            self._log()
        super().refuse(error)

    def body_refused(self, error: BadRequest) -> None:
        if not self._answered:
            self._status = error.status
        super().body_refused(error)

    def _fail(self, status: int, why: str) -> None:
        request = self.request
        level = log.error if status >= 500 else log.warning
        level(
            "request.failed status=%d method=%s path=%s reason=%r",
            status,
            _ascii(request.method),
            _shown(request),
            why,
        )
        self._answered = True
        self._status = status
        self._core.counts.proxied[status] += 1
        self._log()
        if request.upgrade is not None:
            self.transport.write(own_head(status, [], 0, close=True))
            self.answer_done(close=True)
            return

        def done(headers: Headers, body: bytes) -> None:
            self._task = None
            self.respond(status, headers, body)

        if self.phase == READ_BODY:
            self.hold = True
        self._task = self._pages.render(status, request, done)


def _too_large(most: int) -> BadRequest:
    return BadRequest(f"The request body is larger than {most} bytes.", 413)


def _ascii(text: bytes) -> str:
    return text.decode("ascii", "replace")


def _shown(request: RequestHead) -> str:
    """A path for the log: without the query, which may hold a token."""
    return _ascii(_logged(request))


def _logged(request: RequestHead) -> bytes:
    """JupyterHub has calls with a secret in their path."""
    before, mark, _ = request.target.partition(b"/api/authorizations/")
    return before + mark
