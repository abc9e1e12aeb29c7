"""Random requests, whole and damaged: what the target sees is what a strict reading of the client's bytes gives.

The reading here is written for this test alone, after RFC 9112, and shares no code with the proxy.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from component.proxy.conftest import Started
from component.proxy.parts import TOKEN

Request = tuple[bytes, bytes, bytes]
"""Method, target and body."""

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\x00\r\n]*)?")


def strictly(data: bytes) -> tuple[list[Request], bytes]:
    """The requests in `data` up to the first that is incomplete or wrong, and what is left from there."""
    found: list[Request] = []
    while data:
        if data.startswith(b"\r\n"):  # RFC 9112 2.2: one empty line before a request is passed over
            data = data[2:]
        head, mark, rest = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        line = LINE.fullmatch(lines[0])
        fields = [FIELD.fullmatch(one) for one in lines[1:]]
        if not mark or line is None or not all(fields):
            break
        named = [(one[1].lower(), one[2]) for one in fields if one]
        lengths = [value for name, value in named if name == b"content-length"]
        codings = [value.lower() for name, value in named if name == b"transfer-encoding"]
        read = _body(rest, lengths, codings)
        if read is None or (codings and line[3] == b"0"):
            break
        body, data = read
        found.append((line[1], line[2], body))
        closing = any(b"close" in value.lower() for name, value in named if name == b"connection")
        if closing or line[3] == b"0":
            return found, b""
    return found, data


def _body(rest: bytes, lengths: list[bytes], codings: list[bytes]) -> tuple[bytes, bytes] | None:
    """The body and what lies behind it."""
    if codings:
        return _chunks(rest) if codings == [b"chunked"] and not lengths else None
    if not lengths:
        return b"", rest
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]) or len(rest) < int(lengths[0]):
        return None
    return rest[: int(lengths[0])], rest[int(lengths[0]) :]


def _chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line, mark, rest = rest.partition(b"\r\n")
        size = CHUNK.fullmatch(line)
        if not mark or size is None:
            return None
        length = int(size[1], 16)
        if not length:
            break
        if rest[length : length + 2] != b"\r\n":
            return None
        body, rest = body + rest[:length], rest[length + 2 :]
    while True:
        line, mark, rest = rest.partition(b"\r\n")
        if not mark or (line and not FIELD.fullmatch(line)):
            return None
        if not line:
            return body, rest


class Witness:
    """A target that reads strictly and answers; `requests` and what it could not read, `odd`, are its testimony."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.odd: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._talk, args=(connection,)))
                self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                found, held = strictly(held + data)
                self.requests += found
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * len(found))
        if held:
            self.odd.append(held)

    def end(self) -> None:
        """Hear nothing more."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._threads[0].join()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for connection in self._connections:
            connection.close()


def said(started: Started, data: bytes, cuts: list[int], *, patience_s: float) -> tuple[Witness, bytes]:
    """What a target and the client hear of `data`, sent in pieces; the client leaves after so much silence."""
    _, port, api_port, _ = started
    witness = Witness()
    try:
        api = http.client.HTTPConnection("127.0.0.1", api_port, timeout=30)
        with contextlib.closing(api):
            body, token = json.dumps({"target": witness.url}), {"Authorization": f"token {TOKEN}"}
            api.request("POST", "/api/routes/", body, token)
            assert api.getresponse().status == 201
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
            answer = b""
            with contextlib.suppress(OSError):
                for start, stop in itertools.pairwise(edges):
                    client.sendall(data[start:stop])
                client.settimeout(patience_s)
                while piece := client.recv(65536):
                    answer += piece
        return witness, answer
    finally:
        witness.end()


tokens = st.text("abcxyz-", min_size=1, max_size=6).map(str.encode)
bodies = st.one_of(st.binary(max_size=60), st.just(HIDDEN), st.just(b"0\r\n\r\n" + HIDDEN))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, in order."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"]))
    lines = [b"%s /%s HTTP/1.1" % (method, draw(tokens)), b"Host: h"]
    lines += [b"X-%s: %s" % (draw(tokens), draw(tokens)) for _ in range(draw(st.integers(0, 3)))]
    body = draw(bodies)
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        body = b""
    elif framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    else:
        lines.append(draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:chunked"])))
        cut = draw(st.integers(0, len(body)))
        pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
        trailer = draw(st.sampled_from([b"", b"X-T: y\r\n"]))
        body = (
            b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
        )
    return b"\r\n".join([*lines, b"", b""]) + body


ODD = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"chunked",
    b"0",
    b"5",
    b"-",
    b"\xff",
]
ODD += [
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    HIDDEN,
]
damages = st.lists(
    st.tuples(st.integers(0, 2000), st.sampled_from(["put", "cut"]), st.sampled_from(ODD)),
    min_size=1,
    max_size=3,
)
streams = st.lists(requests(), min_size=1, max_size=3).map(b"".join)
cuts = st.lists(st.integers(0, 1000), max_size=4)


def damaged(data: bytes, harm: list[tuple[int, str, bytes]]) -> bytes:
    """Bytes put in or cut out here and there."""
    for where, how, what in harm:
        at = where % (len(data) + 1)
        data = data[:at] + what + data[at:] if how == "put" else data[:at] + data[at + len(what) :]
    return data


@pytest.fixture
def running_proxy(started: Callable[[str], Started]) -> Iterator[Started]:
    """Ours, shared with other tests and left without routes."""
    proxy = started("ours")
    _wait_for(proxy[2])
    yield proxy
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy[2], timeout=30)) as api:
        api.request("DELETE", "/api/routes/", headers={"Authorization": f"token {TOKEN}"})
        api.getresponse().read()
    assert "Traceback" not in proxy[3].read_text()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < until
            threading.Event().wait(0.02)


quick = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@settings(quick, max_examples=40)
@given(stream=streams, cuts=cuts)
def test_whole_requests_arrive_as_they_were_meant(
    running_proxy: Started, stream: bytes, cuts: list[int]
) -> None:
    meant, left = strictly(stream + LAST)
    assert left == b""
    witness, answer = said(running_proxy, stream + LAST, cuts, patience_s=30)
    assert witness.requests == meant
    assert answer.count(b"HTTP/1.1 200 OK") == len(meant)
    assert witness.odd == []


@settings(quick, max_examples=80)
@given(stream=streams, harm=damages, cuts=cuts)
@example(stream=b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", harm=[(0, "cut", b"")], cuts=[])
@example(stream=b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", harm=[(0, "put", b"\r")], cuts=[])
def test_damaged_requests_never_become_others(
    running_proxy: Started, stream: bytes, harm: list[tuple[int, str, bytes]], cuts: list[int]
) -> None:
    data = damaged(stream, harm) + LAST
    meant, left = strictly(data)
    witness, _ = said(running_proxy, data, cuts, patience_s=0.15 if left else 2)
    assert witness.requests == meant[: len(witness.requests)]
    # The beginning of one that was cut off is fine; a framing the target cannot follow is not.
    for odd in witness.odd:
        assert re.match(rb"[A-Z!#$%&'*+.^_`|~0-9a-z-]+ /", odd), odd
        assert strictly(odd + b"x" * 100_000)[0] or b"\r\n\r\n" in odd, odd
