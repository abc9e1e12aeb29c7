"""Closing a connection without losing the answer that was just written to it (RFC 9112 §9.6)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

log = structlog.get_logger(__name__)

LINGER_S = 1.0
"""How long a client that asked for the connection to be closed is given to close its own end first."""


class LingeringHandler(RequestHandler):
    """After the last answer it closes its own direction, and all of it once the client has closed too.

    A unix socket that is closed at once answers the client's next write, even an empty one, with EPIPE. Node's HTTP
    client writes an empty piece after a body, and then throws away an answer that lies ready to be read.
    """

    __slots__ = ("_lost", "reads")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._lost = asyncio.Event()
        self.reads = 0
        """Counts the pieces that came. A WebSocket that sends one large frame slowly is alive, too."""

    def data_received(self, data: bytes) -> None:
        """Bytes of a request or a frame."""
        self.reads += 1
        super().data_received(data)

    @property
    def is_paused(self) -> bool:
        """Whether the client takes no more for now."""
        return self._paused

    async def drained(self) -> None:
        """Return once the client takes more; ConnectionError when it is gone."""
        if self._paused:
            await self._drain_helper()

    def log_exception(self, *args: Any, **more: Any) -> None:
        """What is no HTTP is its sender's fault: a line, without what was sent, which may hold a token."""
        error = more.get("exc_info")
        if isinstance(error, HttpProcessingError):
            log.info("request.malformed", kind=type(error).__name__)
        else:
            super().log_exception(*args, **more)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has closed its end too, or is gone."""
        super().connection_lost(exc)
        self._lost.set()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer; after the last one of a connection, linger."""
        resp, reset = await super().finish_response(request, resp, start_time)
        transport = self.transport
        if reset or resp.keep_alive or transport is None or isinstance(resp, web.WebSocketResponse):
            return resp, reset
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._lost.wait()
        return resp, reset


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return LingeringHandler(self, loop=self._loop, **self._kwargs)


class LingeringRunner(web.AppRunner):
    """An AppRunner whose connections are LingeringHandlers."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        # The application offers no other place to choose the class of its connections.
        server.__class__ = _Server
        return server
