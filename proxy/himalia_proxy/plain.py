"""Two small listeners beside the public one: metrics for Prometheus, and the redirect from http to https."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from himalia_proxy.core import Core
from himalia_proxy.framing import RequestHead
from himalia_proxy.headers import without_port
from himalia_proxy.serving import ServerConnection

_TEXT: Final = (b"Content-Type", b"text/plain; charset=utf-8")
_PROMETHEUS: Final = (b"Content-Type", b"text/plain; version=0.0.4; charset=utf-8")


class _Answering(ServerConnection):
    """Answers once the request's body, which nobody needs, has passed."""

    __slots__ = ()

    def request_begun(self, request: RequestHead) -> None:
        if not request.body:
            self._answer(request)

    def request_data(self, data: bytes, *, last: bool) -> None:
        if last:
            self._answer(self.request)

    def _answer(self, request: RequestHead) -> None:
        raise NotImplementedError


class MetricsConnection(_Answering):
    """`/metrics`, and 404 for anything else. `text` makes the page."""

    __slots__ = ("_text",)

    def __init__(self, core: Core, text: Callable[[], bytes]) -> None:
        super().__init__(core.api_clients, core.loop)
        self._text = text

    def _answer(self, request: RequestHead) -> None:
        if request.target != b"/metrics":
            self.respond(404, [_TEXT], b"Not Found\n")
        elif request.method not in (b"GET", b"HEAD"):
            self.respond(405, [_TEXT, (b"Allow", b"GET, HEAD")], b"Method not supported\n")
        else:
            self.respond(200, [_PROMETHEUS], self._text())


class RedirectConnection(_Answering):
    """301 to the same address by https, on `port`."""

    __slots__ = ("_port",)

    def __init__(self, core: Core, port: int) -> None:
        super().__init__(core.clients, core.loop)
        self._port = port

    def _answer(self, request: RequestHead) -> None:
        if not request.host:
            self.respond(400, [_TEXT], b"This server speaks https only, and the request names no host.\n")
            return
        self.respond(301, [(b"Location", secure_url(request, self._port))])


def secure_url(request: RequestHead, port: int) -> bytes:
    """The same path and query by https, port 443 left out."""
    host = without_port(request.host or b"")
    # A path such as `//evil` stays a path: the host before it is ours.
    return b"https://" + host + (b"" if port == 443 else b":%d" % port) + request.url
