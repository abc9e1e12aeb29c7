"""A browser that is gone without a word: no FIN, no close frame, no answer any more."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from component.singleuser.kernel_parts import Server, running_server
from himalia_singleuser.keys import SOCKETS
from himalia_singleuser.sockets import MOST_UNANSWERED
from support import eventually

PING_S = 0.1
PING_FRAME = b"\x89\x00"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running_server(tmp_path, ping_s=PING_S, terminal_shell=("/bin/sh",)) as server:
        yield server


@asynccontextmanager
async def silent(server: Server, path: str) -> AsyncIterator[socket.socket]:
    """A WebSocket whose other end does nothing, not even close: for the server, a browser on an unplugged cable."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port)) as end:
        end.setblocking(False)
        end.send(
            f"GET {place.path}{path} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: token t\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, 12), 30)
        assert answer == b"HTTP/1.1 101"
        yield end


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kind", ["events", "terminal", "kernel"])
async def test_a_browser_that_vanished_without_a_word_is_found_and_freed(server: Server, kind: str) -> None:
    path = "api/events/subscribe"
    if kind == "terminal":
        await server.ask("POST", "api/terminals", json={})
        path = "terminals/websocket/1"
    if kind == "kernel":
        path = f"api/kernels/{await server.new_kernel()}/channels?session_id=gone"
        async with silent(server, path):
            await eventually(lambda: server.app[SOCKETS])
        # What is kept for its return is the first visit's; from here on nothing may be added.
        await eventually(lambda: not server.app[SOCKETS])
    before = descriptors()

    async with silent(server, path):
        await eventually(lambda: len(server.app[SOCKETS]) == 1)
        await eventually(lambda: not server.app[SOCKETS])

    await eventually(lambda: descriptors() <= before, what="its descriptors are given back")
    if kind == "kernel":
        assert (await server.ask("GET", "api/kernels"))[1][0]["connections"] == 0


async def test_one_that_vanished_while_outputs_wait_for_it_stops_nobody(server: Server) -> None:
    kernel = await server.new_kernel()
    there = await server.browser(kernel)
    async with silent(server, f"api/kernels/{kernel}/channels?session_id=gone"):
        await eventually(lambda: len(server.app[SOCKETS]) == 2)

        said = await there.printed("for _ in range(80): print('x' * 100_000)", within_s=60)

        assert len(said) == 80 * 100_001

        async def others_are_gone() -> bool:
            await there.run("1")  # and answer pings, which is done while reading
            return len(server.app[SOCKETS]) == 1

        await eventually(others_are_gone)
    await there.close()


async def test_one_that_answers_pings_and_one_whose_frame_comes_slowly_stay(server: Server) -> None:
    kernel = await server.new_kernel()
    there = await server.browser(kernel)
    answering = asyncio.create_task(there.until(lambda _: False, within_s=60))
    async with silent(server, f"api/kernels/{kernel}/channels?session_id=slow") as slow:
        slow.send(b"\x82\xfe\xff\xff" + bytes(4))  # the head of a frame of 65,535 bytes
        pings = 0
        while pings < 4 * MOST_UNANSWERED:
            pings += (await asyncio.get_running_loop().sock_recv(slow, 65536)).count(PING_FRAME)
            slow.send(b"x")

        assert len(server.app[SOCKETS]) == 2

    answering.cancel()
    await there.close()
    await eventually(lambda: not server.app[SOCKETS])
