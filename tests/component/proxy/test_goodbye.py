"""A proxy that ends says so in the WebSockets' own language, to both sides, and never inside a frame."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from component.proxy.certs import Authority
from component.proxy.parts import RunningProxy, part, raw_target, read_head, running, serving, until_closed
from component.proxy.test_proxy_limits import HANDSHAKE, SWITCH
from support import eventually

TO_CLIENT = b"\x88\x1a\x03\xf4The proxy is going away."
HELLO, HALF = b"\x81\x85\x00\x00\x00\x00hello", b"\x81\x85\x00\x00\x00\x00he"


async def stopping(proxy: RunningProxy) -> asyncio.Task[int]:
    task = asyncio.create_task(proxy.stop())
    await eventually(lambda: "proxy.stopping" in proxy.log.read_text())
    return task


@pytest.mark.parametrize("tls", [False, True])
async def test_both_sides_are_told_and_close_in_order(tmp_path: Path, tls: bool) -> None:
    codes: list[int | None] = []

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        codes.append(socket.close_code)
        return socket

    options: tuple[str, ...] = ()
    trust: ssl.SSLContext | bool = True
    if tls:
        authority = Authority(tmp_path / "ca")
        pair = authority.sign("localhost")
        options = ("--ssl-key", pair.key, "--ssl-cert", pair.cert)
        trust = ssl.create_default_context(cafile=authority.ca)
    async with serving(talk) as target, running(tmp_path, *options) as proxy:
        await proxy.route("/", target)
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{proxy.port}/"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=trust) as socket:
            await socket.send_str("a word")
            assert await socket.receive_str(timeout=30) == "a word"
            task = await stopping(proxy)
            assert (await socket.receive(timeout=30)).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1012
        assert await task == 0
        await eventually(lambda: codes == [1001])


async def test_a_frame_that_is_half_sent_is_ended_before_goodbye_is_said(tmp_path: Path) -> None:
    heard, finish = bytearray(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/idle" in await read_head(reader):
            writer.write(SWITCH)
            await reader.read()
            return
        # The first fragment of a message, and half of the second.
        writer.write(SWITCH + b"\x01\x03one" + b"\x80\x05th")
        await finish.wait()
        writer.write(b"ree" + b"\x81\x05never")
        while data := await reader.read(1000):
            heard.extend(data)

    async with raw_target(talk) as target, running(tmp_path) as proxy:
        await proxy.route("/", target.url)
        idle, idle_writer = await proxy.connect()
        idle_writer.write(HANDSHAKE.replace(b"/ws", b"/idle") % b"")
        await read_head(idle)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"" + HELLO + HALF)
        await read_head(reader)
        assert await part(reader, 9) == b"\x01\x03one\x80\x05th"
        task = asyncio.create_task(proxy.stop())
        # So the others were asked to go as well; what follows has a second, and waits for nothing else.
        assert await part(idle, len(TO_CLIENT)) == TO_CLIENT
        writer.write(b"llo" + HELLO)
        finish.set()
        assert await until_closed(reader) == b"ree" + TO_CLIENT
        assert await task == 0
        writer.close()
        idle_writer.close()
        await eventually(lambda: len(heard) == 2 * len(HELLO) + 32)
    assert heard[: 2 * len(HELLO)] == 2 * HELLO
    mask, hidden = heard[-30:-26], heard[-26:]
    said = bytes(byte ^ mask[number % 4] for number, byte in enumerate(hidden))
    assert said == b"\x03\xe9The proxy is going away."


async def test_between_the_fragments_of_a_message_goodbye_may_be_said(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(SWITCH + b"\x01\x03one")
        await reader.read()

    async with raw_target(talk) as target, running(tmp_path) as proxy:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"")
        await read_head(reader)
        assert await part(reader, 5) == b"\x01\x03one"
        task = await stopping(proxy)
        assert await until_closed(reader) == TO_CLIENT
        assert await task == 0
        writer.close()


@pytest.mark.parametrize("said", [b"\x88\x02\x03\xe8", b"no frame at all", b"\x81\x7f"])
async def test_where_no_frame_may_be_put_the_connection_just_ends(tmp_path: Path, said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(SWITCH + said)
        await reader.read()

    async with raw_target(talk) as target, running(tmp_path) as proxy:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE % b"")
        await read_head(reader)
        assert await part(reader, len(said)) == said
        task = await stopping(proxy)
        assert await until_closed(reader) == b""
        assert await task == 0
        writer.close()
