"""Ends that are not as they should be: deaths, resets, stale connections, answers that are none, time limits."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import aiohttp.web
import pytest

from component.proxy.parts import (
    RunningProxy,
    answering,
    head_of,
    raw_target,
    read_head,
    running,
    until_closed,
)
from support import eventually

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
MB = 1024 * 1024


async def test_a_dying_target_cuts_the_client_in_the_middle_of_a_body(proxy: RunningProxy) -> None:
    for head in (b"Content-Length: 100", b"Transfer-Encoding: chunked"):

        async def talk(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes = head
        ) -> None:
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + b"5\r\nhello\r\n")
            await writer.drain()

        async with raw_target(talk) as target:
            await proxy.route("/", target.url)
            async with proxy.session.get(f"{proxy.url}/") as answer:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()


async def test_a_reset_unframed_answer_is_not_passed_off_as_complete(proxy: RunningProxy) -> None:
    started = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        await started.wait()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(GET)
        await reader.readuntil(b"half\r\n")
        started.set()
        assert b"0\r\n\r\n" not in await until_closed(reader)
        writer.close()


@pytest.mark.parametrize(
    "request_bytes", [GET, b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"]
)
async def test_a_dying_client_cuts_the_target(proxy: RunningProxy, request_bytes: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # never answers

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        _, writer = await proxy.connect()
        writer.write(request_bytes)
        await eventually(lambda: target.connections == 1)
        writer.close()
        await eventually(lambda: target.closed == 1)


async def test_a_client_that_resets_behind_a_stuck_target_is_noticed(proxy: RunningProxy) -> None:
    """While the target takes nothing, nothing is read from the client, and so no end of it either."""
    never = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        _, writer = await proxy.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n" + bytes(50_000_000))
        pending: list[int] = []

        def stuck() -> bool:
            pending.append(writer.transport.get_write_buffer_size())
            return len(pending) > 8 and len(set(pending[-8:])) == 1

        await eventually(stuck)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        # The test's own connection to the API may stay.
        try:
            await eventually(lambda: proxy.sockets() <= 1)
        finally:
            never.set()


async def test_connections_to_a_target_are_reused(proxy: RunningProxy) -> None:
    async with raw_target(answering()) as target:
        await proxy.route("/", target.url)
        for _ in range(20):
            await proxy.say(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert target.connections == 1


@pytest.mark.parametrize("way", ["at once", "on the next request"])
async def test_a_safe_request_survives_a_stale_pooled_connection(proxy: RunningProxy, way: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        if way != "at once":
            await reader.readexactly(1)  # the second request's first byte: close without a word

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        for _ in range(5):
            async with proxy.session.get(f"{proxy.url}/") as answer:
                assert (answer.status, await answer.text()) == (200, "ok")


async def test_a_request_that_may_not_be_repeated_is_sent_once(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target.seen.append(await read_head(reader))
        if len(target.seen) == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            target.seen.append(await read_head(reader))

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        async with proxy.session.get(f"{proxy.url}/") as answer:
            assert answer.status == 200
        async with proxy.session.post(f"{proxy.url}/", data=b"") as answer:
            assert answer.status == 503
        assert sum(head.startswith(b"POST") for head in target.seen) == 1


async def test_an_early_answer_is_relayed_and_ends_the_connection(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nstart")
        assert b"Connection: close" in await head_of(reader)
        assert await until_closed(reader) == b"big"
        await eventually(lambda: target.closed == 1)
        writer.close()


async def test_bytes_behind_an_answer_are_never_given_to_another_request(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        for _ in range(3):
            async with proxy.session.get(f"{proxy.url}/") as answer:
                assert await answer.text() == "ok"
        assert target.connections == 3


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"220 hello\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ],
    ids=["both lengths", "bad length", "another protocol", "nothing", "endless head", "unasked switch"],
)
async def test_an_answer_that_is_none_becomes_a_503(proxy: RunningProxy, bad: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(bad)
        await writer.drain()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        async with proxy.session.get(f"{proxy.url}/") as answer:
            assert answer.status == 503


async def test_activity_moves_on_success_and_not_on_redirects_or_errors(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            code = (await read_head(reader)).split(b" ")[1][1:]
            writer.write(b"HTTP/1.1 " + code + b" X\r\nContent-Length: 0\r\n\r\n")

    async def last() -> str:
        return json.loads((await proxy.call("GET", "/api/routes/"))[1])["/"]["last_activity"]

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        for code, moves in ((302, False), (404, False), (500, False), (200, True), (204, True)):
            before = await last()
            await eventually(lambda before=before: _later_than(before))

            async def moved(code: int = code, before: str = before) -> bool:
                async with proxy.session.get(f"{proxy.url}/{code}", allow_redirects=False) as answer:
                    assert answer.status == code
                return await last() > before

            if moves:
                await eventually(moved)  # again and again: the clock may have been put back
            else:
                assert not await moved(), code


def _later_than(moment: str) -> bool:
    return datetime.now(UTC) > datetime.fromisoformat(moment) + timedelta(milliseconds=3)


async def test_a_target_that_does_not_answer_in_the_given_time_is_a_503(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with running(tmp_path, "--proxy-timeout", "200") as proxy, raw_target(talk) as target:
        await proxy.route("/", target.url)
        async with proxy.session.get(f"{proxy.url}/") as answer:
            assert answer.status == 503


async def test_an_idle_client_is_let_go_after_the_keep_alive_time(tmp_path: Path) -> None:
    async with running(tmp_path, "--keep-alive-timeout", "100") as proxy, raw_target(answering()) as target:
        await proxy.route("/", target.url)
        assert (await proxy.say(GET)).endswith(b"ok")


async def test_an_upload_counts_as_activity_before_it_is_answered(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def last() -> str:
        return json.loads((await proxy.call("GET", "/api/routes/"))[1])["/"]["last_activity"]

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        before = await last()
        _, writer = await proxy.connect()
        writer.write(b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nthe beginning")

        async def moved() -> bool:
            writer.write(b".")  # again and again: the clock may have stood still since, or been put back
            return await last() > before

        await eventually(moved)
        writer.close()
