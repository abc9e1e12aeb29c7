"""One life of a server before there is a person for it: the first requests find everything loaded and in use.

A process forked from a loaded parent shares its memory until it writes there, and the first run of anything does:
counts, caches, the interpreter's own notes on hot code. Done in the parent, all share it; done ahead in a child, it is
not done while somebody waits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

PREFIX = "/user/rehearsal/"
REQUESTS = 2
_WITHIN_S = 5.0


class _Nowhere:
    def write(self, _text: str) -> None:
        pass

    def flush(self) -> None:
        pass


def prepare() -> None:
    """Rehearse in the parent of all servers: they share what it wrote, two megabytes that each would write by itself.

    On asyncio's own loop. uvloop's leaves a pipe for signals that every child would inherit and take for its own.
    """
    _live_once(asyncio.SelectorEventLoop)


def rehearse() -> None:
    """Rehearse in the process that will be a server, on the loop that it will have."""
    import uvloop

    _live_once(uvloop.new_event_loop)


def _live_once(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Start a server of nobody in a temporary folder, ask it twice, let it report to a pretended hub, end it.

    Leaves no thread and nothing open.
    """
    import structlog

    from himalia_singleuser import lean
    from himalia_singleuser.serve import serve
    from himalia_singleuser.settings import parse

    lean.stay_small()
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(_Nowhere()))  # type: ignore[arg-type]
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{folder}/sock")
            listener.listen()

            async def life() -> None:
                hub = _Hub()
                settings = parse([], _environment(Path(folder)))
                async with (
                    asyncio.timeout(_WITHIN_S),
                    await asyncio.start_unix_server(hub.answer, f"{folder}/hub"),
                ):
                    server = asyncio.ensure_future(serve(settings, listener))
                    for _ in range(REQUESTS):
                        await _ask(f"{folder}/sock")
                    await hub.heard.wait()
                    signal.raise_signal(signal.SIGTERM)
                    await server

            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(life())
        finally:
            os.chdir(before)
            structlog.reset_defaults()


class _Hub:
    """Answers everything with an empty object, and knows when somebody has reported."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                _, _, length = head.lower().partition(b"content-length:")
                await reader.readexactly(int(length.split()[0]) if length else 0)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                )
                if head.startswith(b"POST"):
                    self.heard.set()
        writer.close()


async def _ask(path: str) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        request = f"GET {PREFIX}api HTTP/1.1\r\nHost: rehearsal\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def _environment(folder: Path) -> dict[str, str]:
    """A person's, but that the hub is a pretended one that wants to be told at once. At a socket: to connect to an
    address, libuv starts threads.
    """
    hub = f"http+unix://{quote(str(folder / 'hub'), safe='')}/hub/api"
    return {
        "HOME": str(folder),
        "JUPYTERHUB_API_TOKEN": "of-nobody",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-rehearsal",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{PREFIX}oauth_callback",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": "[]",
        "JUPYTERHUB_OAUTH_SCOPES": "[]",
        "JUPYTERHUB_USER": "rehearsal",
        "JUPYTERHUB_SERVER_NAME": "",
        "JUPYTERHUB_API_URL": hub,
        "JUPYTERHUB_ACTIVITY_URL": f"{hub}/users/rehearsal/activity",
        "JUPYTERHUB_ACTIVITY_INTERVAL": "0.001",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http+unix://{quote(str(folder / 'own'), safe='')}{PREFIX}",
        "JUPYTERHUB_HOST": "",
    }
