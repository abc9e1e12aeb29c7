"""Limits an administrator may set, and the access log."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from component.proxy.parts import RunningProxy, answering, part, raw_target, read_head, running, until_closed
from support import eventually

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HANDSHAKE = b"GET /ws?token=secret HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s\r\n"


async def switching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Agrees to any upgrade and says everything again."""
    await read_head(reader)
    writer.write(SWITCH)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def tunnelled(proxy: RunningProxy, *lines: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await proxy.connect()
    writer.write(HANDSHAKE % b"".join(line + b"\r\n" for line in lines))
    try:
        assert b" 101 " in await read_head(reader)
    except BaseException:
        writer.transport.abort()
        await asyncio.sleep(0)
        raise
    return reader, writer


async def test_the_size_of_a_head_is_a_setting(tmp_path: Path) -> None:
    async with running(tmp_path, "--max-header-size", "2000") as proxy, raw_target(answering()) as target:
        await proxy.route("/", target.url)
        for size, status in ((1500, b"200"), (2500, b"431")):
            head = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX: " + b"x" * size + b"\r\n\r\n"
            assert (await proxy.say(head)).split(b" ")[1] == status


@pytest.mark.parametrize("framing", ["announced", "chunked"])
async def test_a_body_beyond_the_limit_is_refused_and_the_target_cut(tmp_path: Path, framing: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with running(tmp_path, "--max-body-size", "100000") as proxy, raw_target(talk) as target:
        await proxy.route("/", target.url)
        body = bytes(200_000)
        head = b"PUT /a HTTP/1.1\r\nHost: h\r\n"
        if framing == "announced":
            data = head + b"Content-Length: 200000\r\n\r\n" + body
        else:
            data = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        assert (await proxy.say(data)).startswith(b"HTTP/1.1 413 ")
        await eventually(lambda: target.closed == target.connections)


async def test_a_body_has_no_limit_unless_one_is_set(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await reader.readexactly(20_000_000)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with running(tmp_path) as proxy, raw_target(talk) as target:
        await proxy.route("/", target.url)
        async with proxy.session.put(f"{proxy.url}/", data=io.BytesIO(bytes(20_000_000))) as answer:
            assert answer.status == 200


async def test_an_address_may_have_so_many_connections_and_tunnels_count(tmp_path: Path) -> None:
    async with (
        running(tmp_path, "--max-connections-per-address", "3") as proxy,
        raw_target(switching) as target,
    ):
        await proxy.route("/", target.url)
        # The one that looked whether the proxy is up may still be counted.
        await eventually(lambda: proxy.sockets() <= 1)
        kept = [await tunnelled(proxy) for _ in range(3)]
        reader, refused = await proxy.connect()
        assert (await until_closed(reader)).startswith(b"HTTP/1.1 429 ")
        refused.close()

        kept.pop()[1].close()

        async def admitted() -> bool:
            try:
                kept.append(await tunnelled(proxy))
            except (OSError, asyncio.IncompleteReadError, AssertionError):
                return False
            return True

        await eventually(admitted)
        for _, writer in kept:
            writer.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_each_request_is_one_line_of_the_access_log(tmp_path: Path) -> None:
    log, moved = tmp_path / "access.log", tmp_path / "access.log.1"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if b"Upgrade" in head:
            writer.write(SWITCH)
            await reader.read()
        elif b"/cut" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        else:
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello")

    async with running(tmp_path, "--access-log", str(log)) as proxy, raw_target(talk) as target:
        await proxy.route("/user/ada", target.url)
        async with proxy.session.get(f"{proxy.url}/user/ada/x?token=secret") as answer:
            assert answer.status == 201
        async with proxy.session.get(f"{proxy.url}/hub/api/authorizations/token/secret"):
            pass
        await proxy.say(b"GET /user/ada/cut HTTP/1.1\r\nHost: h\r\n\r\n")
        await proxy.say(b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n")
        reader, writer = await proxy.connect()
        writer.write(HANDSHAKE.replace(b"/ws", b"/user/ada/ws") % b"")
        await read_head(reader)
        await eventually(lambda: len(lines_of(log)) == 5)
        os.rename(log, moved)
        proxy.process.send_signal(signal.SIGHUP)
        await eventually(log.exists)
        async with proxy.session.head(f"{proxy.url}/user/ada/last"):
            pass
        writer.close()
        assert await proxy.stop() == 0

    found = [(one["path"], one["status"], one["bytes"], one["route"]) for one in lines_of(moved)]
    assert found == [
        ("/user/ada/x", 201, 5, "/user/ada"),
        ("/hub/api/authorizations/", 404, 0, None),
        ("/user/ada/cut", 200, 4, "/user/ada"),
        ("", 400, 0, None),
        ("/user/ada/ws", 101, 0, "/user/ada"),
    ]
    assert [one["path"] for one in lines_of(log)] == ["/user/ada/last"]
    first = lines_of(moved)[0]
    assert (first["client"], first["method"]) == ("127.0.0.1", "GET")
    assert 0 <= first["seconds"] < 60
    assert "secret" not in moved.read_text()


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("user=ada", {"bob"}),
        ("login=two", {"ada", "bob"}),
        ("route=/user/bob/", {"ada"}),
        ("user=eve", {"ada", "bob"}),
    ],
)
async def test_tunnels_are_cut_by_owner_login_or_route(tmp_path: Path, query: str, left: set[str]) -> None:
    async with running(tmp_path) as proxy, raw_target(switching) as target:
        opened = []
        for user, login in (("ada", b"one"), ("ada", b"two"), ("bob", b"two")):
            await proxy.route(f"/user/{user}", target.url, user=user)
            reader, writer = await proxy.connect()
            cookie = b"Cookie: a=b; jupyterhub-session-id=" + login + b"\r\n"
            writer.write(HANDSHAKE.replace(b"/ws", b"/user/" + user.encode()) % cookie)
            await read_head(reader)
            opened.append((user, login, reader, writer))
        counted = json.loads((await proxy.call("GET", "/api/tunnels"))[1])
        assert counted == {"open": 3, "by_route": {"/user/ada": 2, "/user/bob": 1}}

        status, text = await proxy.call("DELETE", f"/api/tunnels?{query}")

        key, _, value = query.partition("=")

        def hit(user: str, login: bytes) -> bool:
            return {"user": user, "login": login.decode(), "route": f"/user/{user}/"}[key] == value

        assert (status, json.loads(text)) == (
            200,
            {"cut": sum(hit(user, login) for user, login, *_ in opened)},
        )
        for user, login, reader, writer in opened:
            if hit(user, login):
                assert await until_closed(reader) == b""
            else:
                writer.write(b"still here")
                assert await part(reader, 10) == b"still here"
            writer.close()


async def test_tunnels_are_cut_by_the_hash_of_a_token_that_opened_them_however_it_was_said(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as proxy, raw_target(switching) as target:
        await proxy.route("/ws", target.url)
        opened = []
        for query, header in (
            (b"", b"Authorization: token one\r\n"),
            (b"?a=b&token=o%%6Ee", b""),
            (b"?token=other", b"Authorization: Bearer  one \r\n"),
            (b"", b"Authorization: Bearer two\r\n"),
            (b"", b""),
        ):
            reader, writer = await proxy.connect()
            writer.write(HANDSHAKE.replace(b"?token=secret", query) % header)
            await read_head(reader)
            opened.append((reader, writer))
        hashed = [hashlib.sha256(token).hexdigest() for token in (b"one", b"unknown")]

        elsewhere = await proxy.call("DELETE", f"/api/tunnels?token={hashed[0]}&route=/elsewhere")
        cut = await proxy.call("DELETE", f"/api/tunnels?token={','.join(hashed)}")

        assert [json.loads(text)["cut"] for _, text in (elsewhere, cut)] == [0, 3]
        for reader, writer in opened[:3]:
            assert await until_closed(reader) == b""
            writer.close()
        for reader, writer in opened[3:]:
            writer.write(b"still here")
            assert await part(reader, 10) == b"still here"
            writer.close()


async def test_cutting_tunnels_needs_the_token_and_says_whose(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        assert (await proxy.call("DELETE", "/api/tunnels?user=a", token="wrong"))[0] == 403
        for query in ("", "?name=a", "?user=a&x=y"):
            assert (await proxy.call("DELETE", f"/api/tunnels{query}"))[0] == 400
        assert (await proxy.call("POST", "/api/tunnels"))[0] == 405
        assert (await proxy.call("GET", "/api/tunnels/a"))[0] == 404


async def test_a_stop_leaves_tunnels_their_time(tmp_path: Path) -> None:
    async with running(tmp_path, "--tunnel-grace", "600000") as proxy, raw_target(switching) as target:
        await proxy.route("/", target.url)
        reader, writer = await tunnelled(proxy)
        stopping = asyncio.create_task(proxy.stop())
        await eventually(lambda: "proxy.stopping" in proxy.log.read_text())
        writer.write(b"a word while it stops")
        assert await part(reader, 21) == b"a word while it stops"
        writer.close()
        assert await stopping == 0


async def test_when_their_time_is_over_tunnels_are_ended_in_order(tmp_path: Path) -> None:
    async with running(tmp_path, "--tunnel-grace", "200") as proxy, raw_target(switching) as target:
        await proxy.route("/", target.url)
        reader, writer = await tunnelled(proxy)
        writer.write(b"no frame of a WebSocket's, so that none is put behind it")
        await part(reader, 56)
        stopping = asyncio.create_task(proxy.stop())
        assert await reader.read() == b""  # an end, no reset
        assert await stopping == 0
        writer.close()
