"""The end of a connection: an answer is never lost to a client that still writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from himalia_singleuser.lingering import LingeringRunner
from support import eventually


async def _hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def _connected(path: Path) -> tuple[web.AppRunner, asyncio.StreamReader, asyncio.StreamWriter]:
    app = web.Application()
    app.router.add_get("/", _hello)
    runner = LingeringRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return runner, reader, writer


async def test_a_client_may_write_after_the_last_answer_and_still_read_it(tmp_path: Path) -> None:
    runner, reader, writer = await _connected(tmp_path / "socket")
    answer = await reader.read()  # up to the server's end of the stream
    assert answer.endswith(b"hello")
    sock = writer.get_extra_info("socket")
    assert sock.fileno() >= 0
    writer.write(b"x")  # EPIPE, and a lost connection, if the server had closed both directions
    await writer.drain()
    assert not writer.is_closing()
    writer.close()
    await writer.wait_closed()
    await runner.cleanup()


async def test_a_client_that_never_closes_is_closed_by_the_server(tmp_path: Path) -> None:
    runner, reader, writer = await _connected(tmp_path / "socket")
    await reader.read()

    def refused() -> bool:
        writer.write(b"x")
        return writer.is_closing()

    await eventually(refused, what="the server closes the connection")
    writer.close()
    await runner.cleanup()
