"""The REST API by which a hub keeps the table, wire-compatible with configurable-http-proxy."""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs

from himalia_proxy.activity import parse_time
from himalia_proxy.chunked import ChunkedBody
from himalia_proxy.core import Core, log
from himalia_proxy.errors import BadRequest, BadTarget, Refusal
from himalia_proxy.follow import PROTOCOL
from himalia_proxy.framing import CHUNKED, RequestHead
from himalia_proxy.members import Members
from himalia_proxy.paths import readable
from himalia_proxy.serving import CLOSED, ServerConnection
from himalia_proxy.table import clean, shown

MAX_BODY: Final = 16 * 1024 * 1024
BITE: Final = 500
"""Routes that are written at a time: 10,000 take 35 ms, and a hub asks for all of them every few seconds."""
_TOKEN: Final = re.compile(rb"token\s+(\S+)")
_METHODS: Final = (b"GET", b"POST", b"DELETE")
_BULK: Final = (b"PUT", b"PATCH")


Reply = Callable[[int, bytes], None]


class RoutesApi:
    """What the calls do, apart from how they arrive. `changed` is called after every change of the table."""

    def __init__(
        self,
        core: Core,
        members: Members,
        token: str | None,
        changed: Callable[[], None],
        *,
        leader: str | None = None,
    ) -> None:
        self._core = core
        self.members = members
        self._token = token.encode() if token else None
        self._changed = changed
        self._leader = leader

    def answer(self, request: RequestHead, body: bytes, reply: Reply) -> None:
        """Call `reply` with status and JSON, now or when all members know of it; Refusal otherwise."""
        path = request.target
        if path.startswith(b"/api/tunnels"):
            self._tunnels(request, reply)
            return
        if path != b"/api/routes" and not path.startswith(b"/api/routes/"):
            raise Refusal(404, "Not Found")
        whole = path in (b"/api/routes", b"/api/routes/")
        if request.method not in _METHODS and not (whole and request.method in _BULK):
            raise Refusal(405, "Method not supported")
        self.authorize(request)
        if self._leader is not None and request.method != b"GET":
            raise Refusal(409, f"This proxy follows {self._leader}: change the routes there.")
        try:
            routespec = readable(path[len(b"/api/routes") :])
            routespec.encode()
        except ValueError:
            raise Refusal(400, "The route's path contains an escape that is not UTF-8.") from None
        if request.method == b"POST":
            self._post(routespec, body, reply)
        elif request.method == b"DELETE":
            self._delete(routespec, reply)
        elif request.method in _BULK:
            self._bulk(body, reply, whole=request.method == b"PUT")
        else:
            self._core.counts.route_get += 1
            if whole:
                self._all(request.query or b"", reply)
            else:
                reply(200, self._one(routespec))

    def _one(self, routespec: str) -> bytes:
        entry = self._core.table.get(routespec)
        if entry is None:
            raise Refusal(404)
        return _json(shown(entry))

    def authorize(self, request: RequestHead) -> None:
        """Refusal of who does not have the token."""
        if self._token is None:
            return
        for name, value in request.headers:
            if name.lower() == b"authorization":
                given = _TOKEN.search(value)
                if given and hmac.compare_digest(given[1], self._token):
                    return
        raise Refusal(403)

    def _all(self, query: bytes, reply: Reply) -> None:
        asked = parse_qs(query.decode("latin-1"))
        since = (asked.get("inactiveSince") or asked.get("inactive_since") or [""])[0]
        limit = None
        if since:
            try:
                limit = parse_time(since)
            except (ValueError, TypeError, OverflowError):
                raise Refusal(400, f"Invalid datestamp {since!r}: it must be ISO 8601.") from None
        entries = [entry for entry in self._core.table if limit is None or entry.last_activity < limit]
        written: list[bytes] = []

        def go_on() -> None:
            start = len(written) * BITE
            written.append(_json({entry.path: shown(entry) for entry in entries[start : start + BITE]})[1:-1])
            if start + BITE < len(entries):
                self._core.loop.call_soon(go_on)
            else:
                reply(200, b"{%s}" % b",".join(written))

        go_on()

    def _post(self, routespec: str, body: bytes, reply: Reply) -> None:
        data = _read(body)
        if not isinstance(data, dict) or not isinstance(data.get("target"), str):
            raise Refusal(400, "Must specify 'target' as string")
        try:
            entry = self._core.table.put(routespec, data, time.time())
        except BadTarget as error:
            raise Refusal(400, str(error)) from None
        log.info("route.added path=%s target=%s", _plain(entry.path), entry.target.origin)
        self._core.counts.route_add += 1
        self._changed()
        self.members.publish({"put": {entry.path: data}}, lambda: reply(201, b""))

    def _delete(self, routespec: str, reply: Reply) -> None:
        if not self._core.table.remove(routespec):
            raise Refusal(404)
        log.info("route.removed path=%s", _plain(clean(routespec)))
        self._core.counts.route_delete += 1
        self._changed()
        self.members.publish({"put": {clean(routespec): None}}, lambda: reply(204, b""))

    def _bulk(self, body: bytes, reply: Reply, *, whole: bool) -> None:
        """PUT: the table is this. PATCH: these routes change, null removes one. All of it, or 400 and nothing."""
        routes = _read(body)
        if not isinstance(routes, dict):
            raise Refusal(400, "Must be an object of routes by path")
        for path, data in routes.items():
            if data is None and not whole:
                continue
            if not isinstance(data, dict) or not isinstance(data.get("target"), str):
                raise Refusal(400, f"route {path!r}: must specify 'target' as string")
        try:
            self._core.table.update(routes, time.time(), whole=whole)
        except BadTarget as error:
            raise Refusal(400, str(error)) from None
        log.info(
            "routes.%s named=%d routes=%d",
            "replaced" if whole else "changed",
            len(routes),
            len(self._core.table),
        )
        self._core.counts.route_add += len(routes)
        self._changed()
        self.members.publish({"whole" if whole else "put": routes}, lambda: reply(204, b""))

    def _tunnels(self, request: RequestHead, reply: Reply) -> None:
        """GET: how many are open. DELETE: cut those of a `user`, `login`, `route` or `token`; how many there were."""
        if request.target != b"/api/tunnels":
            raise Refusal(404, "Not Found")
        if request.method not in (b"GET", b"DELETE"):
            raise Refusal(405, "Method not supported")
        self.authorize(request)
        if request.method == b"GET":
            by_route = self.members.tunnels()
            reply(200, _json({"open": by_route.total(), "by_route": by_route}))
            return
        asked = {
            name: values[-1] for name, values in parse_qs((request.query or b"").decode("latin-1")).items()
        }
        unknown = asked.keys() - {"user", "login", "route", "token"}
        if unknown or not asked:
            raise Refusal(400, "Name whose tunnels to cut: user, login, route or token.")
        if "route" in asked:
            asked["route"] = clean(asked["route"])
        by = ",".join(sorted(asked))

        def done(cut: int) -> None:
            log.info("tunnels.cut count=%d by=%s", cut, by)
            reply(200, _json({"cut": cut}))

        self.members.cut(asked, done)


class ApiConnection(ServerConnection):
    """A hub's connection: whole small requests, answered at once."""

    __slots__ = ("_api", "_body_parts", "_core", "_decoder", "_size")

    def __init__(self, core: Core, api: RoutesApi) -> None:
        super().__init__(core.api_clients, core.loop)
        self._core = core
        self._api = api
        self._body_parts: list[bytes] = []
        self._decoder: ChunkedBody | None = None
        self._size = 0

    def request_begun(self, request: RequestHead) -> None:
        self._body_parts = []
        self._size = 0
        self._decoder = ChunkedBody(decode=True) if request.body == CHUNKED else None
        if request.body > MAX_BODY:
            self.refuse(BadRequest(f"The body is larger than {MAX_BODY} bytes.", 413))
        elif request.expects and request.body:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif request.target == b"/api/follow":
            self._follow(request)
        elif not request.body:
            self._call()

    def request_data(self, data: bytes, *, last: bool) -> None:
        self._size += len(data)
        if self._size > MAX_BODY:
            self.refuse(BadRequest(f"The body is larger than {MAX_BODY} bytes.", 413))
            return
        self._body_parts.append(self._decoder.feed(data)[0] if self._decoder else data)
        if last:
            self._call()

    def _call(self) -> None:
        body, self._body_parts = b"".join(self._body_parts), []
        try:
            self._api.answer(self.request, body, self._reply)
        except Refusal as refusal:
            self._reply(refusal.status, str(refusal).encode(), b"text/plain; charset=utf-8")
        except Exception:
            log.exception("api.failed")
            self._reply(500, b"")

    def _follow(self, request: RequestHead) -> None:
        """Let another proxy have the table and its changes over this connection."""
        try:
            self._api.authorize(request)
        except Refusal as refusal:
            self._reply(refusal.status, b"")
            return
        if request.upgrade != PROTOCOL or request.method != b"GET":
            self._reply(426, b"")
            return
        self._core.api_clients.open.discard(self)
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n" % PROTOCOL
        )
        log.info("follow.admitted")
        ahead, self.ahead = self.ahead, b""
        self._api.members.admit(self.transport, ahead, lost=lambda: log.info("follow.left"))

    def _reply(self, status: int, body: bytes, kind: bytes = b"application/json") -> None:
        request = self.request
        if self.phase == CLOSED:
            return
        level = log.info if status < 400 else log.warning if status < 500 else log.error
        level(
            "api.called status=%d method=%s path=%s", status, _plain(request.method), _plain(request.target)
        )
        self._core.counts.api[status] += 1
        self.respond(status, [(b"Content-Type", kind)] if body else [], body)


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"Body not valid JSON: {error}") from None


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _plain(text: bytes | str) -> str:
    """For one line of log, whatever it contains."""
    return ascii(text.decode("latin-1") if isinstance(text, bytes) else text)[1:-1]
