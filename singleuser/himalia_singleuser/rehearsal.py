"""One life of a server before there is a person for it: the first requests find everything loaded and in use.

A process forked from a loaded parent shares its memory until it writes there, and the first run of anything does:
counts, caches, the interpreter's own notes on hot code. Done ahead, that is not done while somebody waits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
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


def rehearse() -> None:
    """Start a server of nobody in a temporary folder, ask it twice, end it. Leaves no thread and nothing open."""
    import structlog
    import uvloop

    from himalia_singleuser import lean
    from himalia_singleuser.serve import serve
    from himalia_singleuser.settings import parse

    lean.stay_small()
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(_Nowhere()))  # type: ignore[arg-type]
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            settings = parse([], _environment(Path(folder)))
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{folder}/sock")
            listener.listen()

            async def life() -> None:
                async with asyncio.timeout(_WITHIN_S):
                    server = asyncio.ensure_future(serve(settings, listener))
                    for _ in range(REQUESTS):
                        await _ask(f"{folder}/sock")
                    signal.raise_signal(signal.SIGTERM)
                    await server

            uvloop.run(life())
        finally:
            os.chdir(before)
            structlog.reset_defaults()


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
    """A person's, but that the hub is a socket that nobody listens on."""
    nobody = f"http+unix://{quote(str(folder / 'hub'), safe='')}/hub/api"
    return {
        "HOME": str(folder),
        "JUPYTERHUB_API_TOKEN": "of-nobody",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-rehearsal",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{PREFIX}oauth_callback",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": "[]",
        "JUPYTERHUB_OAUTH_SCOPES": "[]",
        "JUPYTERHUB_USER": "rehearsal",
        "JUPYTERHUB_SERVER_NAME": "",
        "JUPYTERHUB_API_URL": nobody,
        "JUPYTERHUB_ACTIVITY_URL": f"{nobody}/users/rehearsal/activity",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http+unix://{quote(str(folder / 'own'), safe='')}{PREFIX}",
        "JUPYTERHUB_HOST": "",
    }
