"""`api/terminals` and `terminals/websocket`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, web

from himalia_singleuser.answers import json_answer, json_body
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.errors import BadRequest
from himalia_singleuser.fields import text_field
from himalia_singleuser.keys import ACTIVITY, SETTINGS
from himalia_singleuser.sockets import Socket, accept, wants_upgrade
from himalia_singleuser.terminals.pool import TERMINALS, TerminalOptions, TerminalPool
from himalia_singleuser.terminals.terminal import Tab, Terminal


@authenticated
async def list_terminals(request: web.Request) -> web.Response:
    """Every terminal."""
    return json_answer([terminal.model() for terminal in request.app[TERMINALS].all()])


@authenticated
async def start_terminal(request: web.Request) -> web.Response:
    """A new shell. Answers 200, not 201: clients of the stock server check for it."""
    body = await json_body(request) or {}
    terminal = request.app[TERMINALS].start(text_field(body, "name"), cwd=text_field(body, "cwd"))
    return json_answer(terminal.model())


@authenticated
async def show_terminal(request: web.Request) -> web.Response:
    """One terminal."""
    return json_answer(request.app[TERMINALS].get(request.match_info["name"]).model())


@authenticated
async def stop_terminal(request: web.Request) -> web.Response:
    """End the shell; it is gone when this answers."""
    await request.app[TERMINALS].stop(request.match_info["name"])
    return web.Response(status=204)


@authenticated
async def terminal_socket(request: web.Request) -> web.StreamResponse:
    """One tab on one terminal."""
    terminal = request.app[TERMINALS].get(request.match_info["name"])
    if not wants_upgrade(request):
        raise BadRequest("This address speaks WebSocket only; the request has no `Upgrade: websocket`.")
    async with accept(request) as socket:
        tab = terminal.join()
        writing = [
            asyncio.create_task(_write(terminal, tab, socket)),
            asyncio.create_task(_close_when_dismissed(tab, socket)),
        ]
        try:
            async for frame, _ in socket.frames():
                if not _obey(terminal, tab, frame):
                    await socket.close(
                        WSCloseCode.INVALID_TEXT, 'expected ["stdin", text] or ["set_size", rows, cols]'
                    )
        finally:
            terminal.leave(tab)
            for task in writing:
                task.cancel()
            await asyncio.wait(writing)
    return socket.ws


async def _write(terminal: Terminal, tab: Tab, socket: Socket) -> None:
    with suppress(ConnectionError):
        await _say(socket, "setup", {})
        while text := await tab.take():
            terminal.keep_reading()
            await _say(socket, "stdout", text)
        await _say(socket, "disconnect", 1)
        await socket.close()


async def _say(socket: Socket, kind: str, what: Any) -> None:
    await socket.send(json.dumps([kind, what]).encode(), text=True)


async def _close_when_dismissed(tab: Tab, socket: Socket) -> None:
    code, reason = await tab.dismissed
    await socket.close(code, reason)


def _obey(terminal: Terminal, tab: Tab, frame: bytes) -> bool:
    """Whether the frame was understood."""
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        return False
    match message:
        case ["stdin", str() as text, *_]:
            return terminal.typed(text)
        case ["set_size", int() as rows, int() as cols, *_]:
            if rows > 0 and cols > 0:
                terminal.resized(tab, rows, cols)
            return True
        # A tab that is hidden while it opens measures NaN or null: no size, but no mistake either.
        case ["set_size", *_]:
            return True
    return False


async def terminals_lifetime(app: web.Application) -> AsyncIterator[None]:
    """Shells live no longer than the server."""
    settings = app[SETTINGS]
    pool = app[TERMINALS] = TerminalPool(
        root_dir=settings.root_dir,
        shell=settings.terminal_shell,
        environ=settings.environ,
        server_url=f"http://{settings.ip or '127.0.0.1'}:{settings.port}{settings.base_url}",
        on_activity=app[ACTIVITY].touch,
        enabled=settings.terminals,
    )
    limit_s = settings.cull_terminals_s
    options = TerminalOptions(limit_s, settings.looks_every_s(limit_s))
    culling = asyncio.create_task(pool.cull_forever(options))
    yield
    culling.cancel()
    await pool.close()


routes: list[web.RouteDef] = [
    web.get("/api/terminals", list_terminals, allow_head=False),
    web.post("/api/terminals", start_terminal),
    web.get(r"/api/terminals/{name:\w+}", show_terminal, allow_head=False),
    web.delete(r"/api/terminals/{name:\w+}", stop_terminal),
    web.get(r"/terminals/websocket/{name:\w+}", terminal_socket, allow_head=False),
]
lifetimes = [terminals_lifetime]
