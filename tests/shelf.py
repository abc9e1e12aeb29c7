"""A server of archives on loopback."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


def zipped(**files: str) -> bytes:
    """A zip archive of these texts by name."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return sink.getvalue()


class Shelf:
    """A server of archives. `files` by path; a text is where a redirect leads. `status` other than 200 answers all."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | str] = {}
        self.url = ""
        self.sent, self.status = 0, 200

    async def serve(self, request: web.Request) -> web.Response:
        """One request; `sent` counts those that were answered with content."""
        if self.status != 200:
            return web.Response(status=self.status)
        found = self.files.get(request.path)
        if found is None:
            return web.Response(status=404)
        if isinstance(found, str):
            return web.Response(status=302, headers={"Location": found})
        tag = f'"{hash(found)}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        self.sent += 1
        return web.Response(body=found, headers={"ETag": tag})


@asynccontextmanager
async def serving() -> AsyncIterator[Shelf]:
    """One that listens until the block ends."""
    server = Shelf()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
