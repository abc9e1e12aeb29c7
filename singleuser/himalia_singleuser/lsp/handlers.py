"""`lsp/status` and `lsp/ws`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import structlog
from aiohttp import WSCloseCode, web

from himalia_singleuser.answers import json_answer
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.errors import BadRequest, NotFound
from himalia_singleuser.keys import SETTINGS
from himalia_singleuser.lsp.servers import find_all
from himalia_singleuser.lsp.session import LanguageServer, Page
from himalia_singleuser.sockets import Socket, accept, wants_upgrade

log = structlog.get_logger(__name__)

LANGUAGE_SERVERS: web.AppKey[dict[str, LanguageServer]] = web.AppKey("LANGUAGE_SERVERS", dict)


async def _known(request: web.Request) -> dict[str, LanguageServer]:
    """Those that run, and those that are installed now."""
    settings, servers = request.app[SETTINGS], request.app[LANGUAGE_SERVERS]
    found = await asyncio.to_thread(find_all, settings.config_path, settings.environ.get("PATH", ""))
    for name, spec in found.items():
        if name not in servers:
            servers[name] = LanguageServer(spec, cwd=settings.root_dir, environ=settings.environ)
    return servers


@authenticated
async def show_status(request: web.Request) -> web.Response:
    """Every language server that could be used; JupyterLab asks once per page."""
    servers = await _known(request)
    return json_answer(
        {
            "version": 2,
            "sessions": {name: server.model() for name, server in servers.items()},
            "specs": {name: server.spec.model() for name, server in servers.items()},
        }
    )


@authenticated
async def language_socket(request: web.Request) -> web.StreamResponse:
    """One page on one server: a frame is a message."""
    name = request.match_info["name"]
    server = (await _known(request)).get(name)
    if server is None:
        raise NotFound(f"Language server {name!r} is not installed")
    if not wants_upgrade(request):
        raise BadRequest("This address speaks WebSocket only; the request has no `Upgrade: websocket`.")
    async with accept(request) as socket:
        try:
            page = await server.join()
        except OSError as error:
            log.warning("lsp.not_started", server=name, why=str(error))
            await socket.close(WSCloseCode.INTERNAL_ERROR, f"{name} cannot be started: {error.strerror}")
            return socket.ws
        writing = asyncio.create_task(_write(page, socket))
        try:
            with suppress(ConnectionError):
                async for frame, _ in socket.frames():
                    await server.ask(frame)
        finally:
            writing.cancel()
            await asyncio.wait([writing])
            await server.leave(page)
    return socket.ws


async def _write(page: Page, socket: Socket) -> None:
    with suppress(ConnectionError):
        while (message := await page.take()) is not None:
            await socket.send(message, text=True)
        await socket.close(WSCloseCode.GOING_AWAY, "the language server has ended")


async def lsp_lifetime(app: web.Application) -> AsyncIterator[None]:
    """Language servers live no longer than the server."""
    servers = app[LANGUAGE_SERVERS] = {}
    yield
    await asyncio.gather(*(server.close() for server in servers.values()))


routes: list[web.RouteDef] = [
    web.get("/lsp/status", show_status, allow_head=False),
    web.get("/lsp/ws/{name}", language_socket, allow_head=False),
]
lifetimes = [lsp_lifetime]
