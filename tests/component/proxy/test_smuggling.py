"""What two readers could read in two ways is refused, and no byte of it reaches a target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from component.proxy.parts import RawTarget, RunningProxy, raw_target
from support import eventually

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"


def post(*lines: bytes, body: bytes = b"", first: bytes = b"POST /a HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: h", *lines, b"", b""]) + body + HIDDEN


HEADS = {
    "both lengths": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 33"),
    "length list": post(b"Content-Length: 0, 33"),
    "signed length": post(b"Content-Length: +0"),
    "two codings": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "obscured coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "coding behind a tab": post(b"Transfer-Encoding:\tchunked\x0b", body=b"0\r\n\r\n"),
    "space before colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "folded coding": post(b"X: y", b" Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "bare line feed": b"POST /a HTTP/1.1\r\nHost: h\r\nX: y\nContent-Length: 33\r\n\r\n" + HIDDEN,
    "bare line feeds only": b"GET /a HTTP/1.1\nHost: h\n\n",
    "bare carriage return": b"POST /a HTTP/1.1\r\nHost: h\r\nX: y\rContent-Length: 33\r\n\r\n" + HIDDEN,
    "coding in HTTP/1.0": post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", first=b"POST /a HTTP/1.0"),
    "two hosts": post(b"Host: other"),
    "no host": b"GET /a HTTP/1.1\r\n\r\n",
    "host with a path": b"GET /a HTTP/1.1\r\nHost: h/../\r\n\r\n",
    "HTTP/0.9": b"GET /a\r\n\r\n",
    "HTTP/2.0": b"GET /a HTTP/2.0\r\nHost: h\r\n\r\n",
    "space in the target": b"GET /a /b HTTP/1.1\r\nHost: h\r\n\r\n",
    "malformed escape": b"GET /a%zz HTTP/1.1\r\nHost: h\r\n\r\n",
    "signed hexadecimal length": post(b"Content-Length: 0x21"),
    "length with a space in it": post(b"Content-Length: 3 3"),
    "empty length": post(b"Content-Length:"),
    "identity before chunked": post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n"),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "empty coding": post(b"Transfer-Encoding:"),
    "nul in a value": post(b"X: a\x00b"),
    "nul in a name": post(b"X\x00: a"),
    "name that is none": post(b"X(y): a"),
    "line without a colon": post(b"Content-Length 33"),
    "empty name": post(b": a"),
    "folded first line": b"GET /a HTTP/1.1\r\n X: y\r\nHost: h\r\n\r\n",
    "two hosts in one": b"GET /a HTTP/1.1\r\nHost: h, other\r\n\r\n",
    "host with a user": b"GET /a HTTP/1.1\r\nHost: user@h\r\n\r\n",
    "target of another host": b"GET http://other/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "target without a slash": b"GET a HTTP/1.1\r\nHost: h\r\n\r\n",
    "target with a fragment": b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
    "target with a backslash": b"GET /a\\b HTTP/1.1\r\nHost: h\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version with a space": b"GET /a HTTP/1.1 \r\nHost: h\r\n\r\n",
    "version in small letters": b"GET /a http/1.1\r\nHost: h\r\n\r\n",
    "tab in the request line": b"GET\t/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "carriage return before the method": b"\rGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "line feed before the method": b"\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "method that is none": b"G(T /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "length of other digits": post("Content-Length: ٣٣".encode()),
    "length in two lines": post(b"Content-Length: 3", b" 3"),
    "length that ends in a nul": post(b"Content-Length: 33\x00"),
    "length with a fraction": post(b"Content-Length: 33.0"),
    "coding behind a hard space": post(b"Transfer-Encoding:\xa0chunked", body=b"0\r\n\r\n"),
    "coding with a comma before": post(b"Transfer-Encoding: , chunked", body=b"0\r\n\r\n"),
    "coding with a letter that is none": post(b"Transf\xebr-Encoding: chunked", body=b"0\r\n\r\n"),
    "coding behind a semicolon": post(b"Transfer-Encoding;: chunked", body=b"0\r\n\r\n"),
    "head ended by a stray return": b"GET /a HTTP/1.1\r\nHost: h\r\r\n\r\n",
    "absolute target without a host": b"GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n",
    "version with more digits": b"GET /a HTTP/1.10\r\nHost: h\r\n\r\n",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}

BODIES = {
    "chunk ended by a line feed": b"5\nhello\n0\n\n",
    "chunk longer than it says": b"5\r\nhello!\r\n0\r\n\r\n",
    "negative chunk": b"-1\r\nhello\r\n0\r\n\r\n",
    "prefixed chunk size": b"0x5\r\nhello\r\n0\r\n\r\n",
    "huge chunk size": b"fffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
    "line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "trailer that is none": b"0\r\nGET /hidden HTTP/1.1\r\n\r\n",
    "size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "size behind a space": b" 5\r\nhello\r\n0\r\n\r\n",
    "size before a space": b"5 \r\nhello\r\n0\r\n\r\n",
    "size that wraps around": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "data ended by two other bytes": b"5\r\nhelloXX0\r\n\r\n",
    "data ended by line feeds": b"5\r\nhello\n\n0\r\n\r\n",
    "extension ended by a line feed": b"5;\nxx\r\n4c\r\n0\r\n\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "last chunk ended by a line feed": b"0\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "carriage return in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "endless extension": b"5;" + b"x" * 10_000,
}


@pytest.fixture
async def target(proxy: RunningProxy) -> AsyncIterator[RawTarget]:
    """Records every byte it is sent and answers nothing."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            started.seen.append(data)

    async with raw_target(talk) as started:
        await proxy.route("/", started.url)
        yield started


@pytest.mark.parametrize("name", HEADS)
async def test_an_ambiguous_head_is_refused_and_never_forwarded(
    proxy: RunningProxy, target: RawTarget, name: str
) -> None:
    answer = await proxy.say(HEADS[name])

    status = int(answer.split(b" ")[1])
    assert status in (400, 501, 505), answer
    assert answer.count(b"\r\n\r\n") == 1
    assert target.seen == []


@pytest.mark.parametrize("method", [b"POST", b"DELETE", b"OPTIONS"])
@pytest.mark.parametrize("name", BODIES)
async def test_a_broken_chunk_ends_the_request_and_is_not_passed_on(
    proxy: RunningProxy, target: RawTarget, name: str, method: bytes
) -> None:
    head = method + b" /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = await proxy.say(head + BODIES[name] + HIDDEN)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"\r\n\r\n") == 1
    await eventually(lambda: target.connections == target.closed)
    got = b"".join(target.seen)
    _, _, body = got.partition(b"\r\n\r\n")
    assert body in (b"", b"5\r\nhello", b"0\r\n"), body


async def test_a_chunked_delete_cannot_hide_a_request(proxy: RunningProxy, target: RawTarget) -> None:
    """A length of 0 beside a chunked body would let a target take the body for the next request."""
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    _, writer = await proxy.connect()
    writer.write(b"DELETE /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body)

    await eventually(lambda: b"".join(target.seen).endswith(body))

    head = b"".join(target.seen).partition(b"\r\n\r\n")[0].lower()
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    writer.close()


async def test_an_h2c_upgrade_is_not_passed_on(proxy: RunningProxy, target: RawTarget) -> None:
    _, writer = await proxy.connect()
    writer.write(
        b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"
    )
    await eventually(lambda: target.seen)
    assert b"h2c" not in target.seen[0]
    assert b"HTTP2" not in target.seen[0]
    writer.close()


async def test_bytes_that_trickle_in_are_read_as_one_request(proxy: RunningProxy, target: RawTarget) -> None:
    _, writer = await proxy.connect()
    whole = b"\r\nPOST /a?q HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    for start in range(len(whole)):
        writer.write(whole[start : start + 1])
        await writer.drain()
    await eventually(lambda: b"".join(target.seen).endswith(b"5\r\nhello\r\n0\r\n\r\n"))
    assert b"".join(target.seen).startswith(b"POST /a?q HTTP/1.1\r\nHost: h\r\n")
    writer.close()


async def test_a_refused_client_does_not_trouble_the_next_one(proxy: RunningProxy, target: RawTarget) -> None:
    for request in HEADS.values():
        await proxy.say(request)
        answer = await proxy.say(b"GET /_chp_healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_head_too_large_is_refused(proxy: RunningProxy, target: RawTarget) -> None:
    answer = await proxy.say(b"GET /a HTTP/1.1\r\nHost: h\r\nCookie: " + b"x" * 70_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert target.seen == []
    _, writer = await proxy.connect()
    writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\nCookie: " + b"x" * 50_000 + b"\r\n\r\n")
    await eventually(lambda: sum(map(len, target.seen)) > 50_000)
    writer.close()
