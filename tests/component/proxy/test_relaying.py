"""HTTP through the proxy: streaming both ways, bounded memory, framing, pooled connections, deaths."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import aiohttp.web
import pytest

from component.proxy.parts import (
    RunningProxy,
    answering,
    head_of,
    part,
    raw_target,
    read_head,
    serving,
)
from support import eventually

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
MB = 1024 * 1024


async def test_a_request_reaches_the_target_of_the_longest_prefix(proxy: RunningProxy) -> None:
    async with raw_target(answering(b"root")) as root, raw_target(answering(b"ada")) as ada:
        await proxy.route("/", root.url)
        await proxy.route("/user/ada", ada.url)
        for path, body in (
            ("/user/ada/lab", "ada"),
            ("/user/adam", "root"),
            ("//user/ada", "root"),
            ("/x", "root"),
        ):
            async with proxy.session.get(proxy.url + path) as answer:
                assert await answer.text() == body, path


async def test_a_unix_socket_is_a_target(proxy: RunningProxy, tmp_path: Path) -> None:
    async with raw_target(answering(b"by socket"), path=tmp_path / "s") as target:
        await proxy.route("/user/ada", target.url + "/user/ada")
        async with proxy.session.get(f"{proxy.url}/user/ada/") as answer:
            assert await answer.text() == "by socket"


@pytest.mark.parametrize("swapped_for", ["a link", "a file"])
async def test_what_a_target_put_in_place_of_its_socket_is_never_connected_to(
    proxy: RunningProxy, tmp_path: Path, swapped_for: str
) -> None:
    """A container may write into the folder of its socket: a link there must not lead to sockets of the machine."""
    async with raw_target(answering(b"another's"), path=tmp_path / "another") as another:
        theirs = tmp_path / "s"
        if swapped_for == "a link":
            theirs.symlink_to(tmp_path / "another")
        else:
            theirs.write_bytes(b"")
        await proxy.route("/user/ada", "http+unix://" + str(theirs).replace("/", "%2F"))
        async with proxy.session.get(f"{proxy.url}/user/ada/") as answer:
            assert answer.status == 503
        assert another.connections == 0


async def test_health_is_answered_before_any_route(proxy: RunningProxy) -> None:
    async with proxy.session.get(f"{proxy.url}/_chp_healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "OK"})


async def test_an_answers_head_and_each_piece_leave_as_they_come(proxy: RunningProxy) -> None:
    """Server-sent events: nothing waits for what comes later."""
    go = asyncio.Queue[bytes]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        while piece := await go.get():
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        async with proxy.session.get(f"{proxy.url}/events") as answer:
            assert answer.status == 200
            for piece in (b"data: 1\n\n", b"data: 2\n\n"):
                go.put_nowait(piece)
                assert await answer.content.readexactly(len(piece)) == piece
            go.put_nowait(b"")
            assert await answer.read() == b""


async def test_an_uploads_head_leaves_before_its_body(proxy: RunningProxy) -> None:
    heads = asyncio.Queue[bytes]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.put_nowait(await read_head(reader))
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(b"PUT /f HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
        async with asyncio.timeout(30):
            assert (await heads.get()).startswith(b"PUT /f HTTP/1.1\r\n")
        writer.write(b"hello")
        await head_of(reader)
        assert await part(reader, 5) == b"hello"
        writer.close()


async def test_expect_100_continue_is_answered_by_the_target(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Expect: 100-continue" in await read_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        writer.write(b"PUT /f HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await head_of(reader)).startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </x>")
        assert (await head_of(reader)).startswith(b"HTTP/1.1 100 Continue")
        writer.write(b"hi")
        assert (await head_of(reader)).startswith(b"HTTP/1.1 201 Created")
        writer.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_arrives_whole_and_framed_as_it_was_sent(
    proxy: RunningProxy, method: str, chunked: bool
) -> None:
    body = bytes(range(256)) * 2000

    async def handler(request: aiohttp.web.Request) -> aiohttp.web.Response:
        assert await request.read() == body
        return aiohttp.web.json_response(
            {"chunked": "chunked" in request.headers.get("Transfer-Encoding", "")}
        )

    async def pieces():
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    async with serving(handler) as url:
        await proxy.route("/", url)
        data = pieces() if chunked else body
        async with proxy.session.request(method, f"{proxy.url}/x", data=data) as answer:
            assert json.loads(await answer.text()) == {"chunked": chunked}


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"\r\nContent-Length: 2\r\n\r\nok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\nX-Sum: 1\r\n\r\n",
            b"\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\nX-Sum: 1\r\n\r\n",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nok", b"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (b"HTTP/1.1 304 Not Modified\r\nETag: e\r\n\r\n", b"\r\nETag: e\r\n\r\n"),
    ],
    ids=["length", "chunked", "until close", "no body"],
)
async def test_every_framing_is_relayed_and_the_connection_lives_on(
    proxy: RunningProxy, sent: bytes, received: bytes
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            writer.write(sent)
            if sent.startswith(b"HTTP/1.0"):
                return

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        reader, writer = await proxy.connect()
        for _ in range(3):
            writer.write(GET)
            await reader.readuntil(sent.partition(b"\r\n")[0][9:])
            assert await part(reader, len(received)) == received
        writer.close()
        assert target.connections == (3 if sent.startswith(b"HTTP/1.0") else 1)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2\r\n\r\nok", b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
async def test_an_http_1_0_client_gets_plain_bytes_and_a_close(proxy: RunningProxy, framing: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"HTTP/1.1\r\n" in await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing)
        await reader.read()

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        answer = await proxy.say(b"GET / HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"ok"
    assert b"Connection: close" in head
    assert b"Transfer-Encoding" not in head


async def test_the_answer_to_head_has_no_body_and_the_next_request_is_read_right(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await read_head(reader)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head.startswith(b"HEAD") else b"ok")
            )

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        answer = await proxy.say(
            b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"\r\n\r\nok")
    assert target.connections == 1


async def test_pipelined_requests_are_answered_in_order(proxy: RunningProxy) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = (await read_head(reader)).split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path) + path)

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        requests = b"".join(b"GET /%03d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(50))
        mixed = requests + b"GET /_chp_healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        answer = await proxy.say(mixed)
    places = [answer.find(b"/%03d" % number) for number in range(50)]
    assert places == sorted(places)
    assert -1 not in places
    assert answer.endswith(b'{"status":"OK"}')


async def stalled(value) -> None:
    """Wait until a count has grown and then stood still."""
    seen: list[int] = []

    def still() -> bool:
        seen.append(value())
        return len(seen) > 8 and seen[-1] > 0 and len(set(seen[-8:])) == 1

    await eventually(still)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_slow_reader_holds_the_sender_back_and_memory_stays_bounded(
    proxy: RunningProxy, direction: str
) -> None:
    total = 200 * MB
    done = asyncio.Event()
    sent = 0

    async def send(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        piece = bytes(MB)
        while sent < total:
            writer.write(piece)
            await writer.drain()
            sent += MB

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if direction == "down":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            await send(writer)
            await reader.read()
        else:
            await done.wait()
            for _ in range(total // MB):
                await reader.readexactly(MB)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with raw_target(talk) as target:
        await proxy.route("/", target.url)
        before = proxy.memory()
        reader, writer = await proxy.connect()
        sender: asyncio.Task[None] | None = None
        if direction == "down":
            writer.write(GET)
            await head_of(reader)
        else:
            writer.write(b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % total)
            sender = asyncio.create_task(send(writer))
        await stalled(lambda: sent)
        assert sent < total / 2
        held = proxy.memory() - before

        done.set()
        if direction == "down":
            for _ in range(total // MB):
                await part(reader, MB)
        else:
            assert (await head_of(reader)).startswith(b"HTTP/1.1 200")
            assert sender is not None
            await sender
        assert max(held, proxy.memory() - before) < 20 * MB
        writer.close()
