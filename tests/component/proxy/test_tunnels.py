"""WebSockets and other upgrades: raw bytes both ways, nothing lost, both ends die together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import aiohttp.web
import pytest

from component.proxy.parts import RunningProxy, part, raw_target, read_head, running, until_closed
from support import eventually

HANDSHAKE = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Version: 13\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\nX-Kept: 1\r\n\r\n"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Switches and says everything again."""
    await read_head(reader)
    writer.write(SWITCH)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def websocket_server() -> AsyncIterator[str]:
    async def handler(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        socket = aiohttp.web.WebSocketResponse(protocols=["v1.kernel"], max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data == "close":
                await socket.close(code=4000, message=b"bye")
            else:
                await socket.send_str(message.data)
        return socket

    app = aiohttp.web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_websocket_carries_text_and_large_binary_messages(proxy: RunningProxy) -> None:
    async with websocket_server() as url:
        await proxy.route("/user/ada", url)
        async with proxy.session.ws_connect(
            f"{proxy.url}/user/ada/ws", protocols=["v1.kernel"], max_msg_size=0
        ) as socket:
            assert socket.protocol == "v1.kernel"
            await socket.send_str("héllo")
            assert await socket.receive_str() == "héllo"
            blob = os.urandom(5_000_000)
            await socket.send_bytes(blob)
            assert await socket.receive_bytes(timeout=30) == blob
            await socket.send_str("close")
            closing = await socket.receive()
            assert (closing.type, closing.data, closing.extra) == (aiohttp.WSMsgType.CLOSE, 4000, "bye")


@pytest.mark.parametrize("protocol", [b"websocket", b"x", b"tcp-over-http/1"])
async def test_whatever_is_upgraded_to_becomes_a_tunnel(proxy: RunningProxy, protocol: bytes) -> None:
    async with raw_target(echo) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % protocol)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"X-Kept: 1" in head
        assert b"Connection: Upgrade\r\nUpgrade: x" in head
        writer.write(bytes(range(256)))
        assert await part(reader, 256) == bytes(range(256))
        writer.close()
        await eventually(lambda: target.closed == 1)


async def test_bytes_sent_along_with_the_handshake_reach_the_target(proxy: RunningProxy) -> None:
    async with raw_target(echo) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"websocket" + b"early")
        await reader.readuntil(b"\r\n\r\n")
        assert await part(reader, 5) == b"early"
        writer.close()


async def test_bytes_sent_along_with_the_101_reach_the_client(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(SWITCH + b"first words")
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"websocket")
        await reader.readuntil(b"\r\n\r\n")
        assert await part(reader, 11) == b"first words"
        writer.close()


async def test_an_answer_other_than_101_is_relayed_and_the_connection_closed(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        answer = await proxy.say(HANDSHAKE % b"websocket")
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert answer.endswith(b"\r\n\r\nno")


@pytest.mark.parametrize(("routed", "status"), [(False, b"404"), (True, b"503")])
async def test_a_handshake_that_reaches_nobody_is_told_so_and_closed(
    proxy: RunningProxy, routed: bool, status: bytes
) -> None:
    if routed:
        await proxy.route("/", "http://127.0.0.1:1")
    assert (await proxy.say(HANDSHAKE % b"websocket")).startswith(b"HTTP/1.1 " + status)


async def test_a_client_gone_before_the_101_cuts_the_target(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        _, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"websocket")
        await eventually(lambda: target.connections == 1)
        writer.close()
        await eventually(lambda: target.closed == 1)


async def test_a_dying_target_ends_the_clients_tunnel(proxy: RunningProxy) -> None:
    async with raw_target(echo) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"websocket")
        await reader.readuntil(b"\r\n\r\n")
        target.reset_all()
        assert await until_closed(reader) == b""
        writer.close()


async def test_a_half_closed_tunnel_still_carries_the_other_direction(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(SWITCH)
        question = await reader.read()
        writer.write(b"heard " + question)
        await writer.drain()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"x")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"you")
        writer.write_eof()
        assert await until_closed(reader) == b"heard you"
        writer.close()


async def test_a_changed_or_deleted_route_does_not_touch_open_tunnels(proxy: RunningProxy) -> None:
    async with raw_target(echo) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"websocket")
        await reader.readuntil(b"\r\n\r\n")
        await proxy.route("/", "http://127.0.0.1:1")
        await proxy.call("DELETE", "/api/routes/")
        writer.write(b"still here")
        assert await part(reader, 10) == b"still here"
        writer.close()


async def test_a_client_silent_in_a_request_is_let_go_and_an_idle_tunnel_is_not(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if b"Upgrade" in head:
            writer.write(SWITCH)
        while data := await reader.read(65536):
            writer.write(data)

    limits = ("--timeout", "1000", "--keep-alive-timeout", "200", "--half-open-timeout", "1000")
    async with running(tmp_path, *limits) as proxy, raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"websocket")
        await reader.readuntil(b"\r\n\r\n")

        silent = b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\npart"
        with contextlib.suppress(ConnectionResetError):
            assert await proxy.say(silent, within_s=30) == b""

        writer.write(b"still here")
        assert await part(reader, 10) == b"still here"
        writer.close()


async def test_only_the_clients_words_in_a_tunnel_count_as_activity(proxy: RunningProxy) -> None:
    say = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(SWITCH)
        await say.wait()
        writer.write(b"server")
        await reader.read()

    async def last() -> str:
        return json.loads((await proxy.call("GET", "/api/routes/"))[1])["/"]["last_activity"]

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"websocket")
        await reader.readuntil(b"\r\n\r\n")
        opened = await last()
        say.set()
        assert await part(reader, 6) == b"server"
        assert await last() == opened

        async def moved() -> bool:
            writer.write(b"client")  # again and again: the clock may have stood still since, or been put back
            return await last() > opened

        await eventually(moved)
        writer.close()


async def test_a_slow_reader_of_a_tunnel_holds_the_sender_back(proxy: RunningProxy) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        writer.write(SWITCH)
        while sent < 200:
            writer.write(bytes(1024 * 1024))
            await writer.drain()
            sent += 1

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        before = proxy.memory()
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"websocket")
        await reader.readuntil(b"\r\n\r\n")
        counts: list[int] = []

        def stalled() -> bool:
            counts.append(sent)
            return len(counts) > 8 and counts[-1] > 0 and len(set(counts[-8:])) == 1

        await eventually(stalled)
        assert sent < 100
        assert proxy.memory() - before < 20 * 1024 * 1024
        writer.transport.abort()
        await eventually(lambda: target.closed == 1)


async def test_a_thousand_tunnels_that_come_and_go_leave_nothing_open(proxy: RunningProxy) -> None:
    async with raw_target(echo) as target:
        await proxy.route("/", target.url)
        await proxy.say(b"GET /_chp_healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")

        async def one(number: int) -> None:
            reader, writer = await proxy.connect()
            writer.write(HANDSHAKE % b"websocket")
            if number % 3:
                await reader.readuntil(b"\r\n\r\n")
            if number % 2:
                writer.transport.abort()
            writer.close()

        for start in range(0, 1000, 50):
            await asyncio.gather(*(one(number) for number in range(start, start + 50)))

        # The test's own connection to the API may stay.
        await eventually(lambda: proxy.sockets() <= 1)
        await eventually(lambda: target.connections == target.closed)
