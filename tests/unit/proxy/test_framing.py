"""Heads and bodies: what is ambiguous is refused, what is streamed comes out as it went in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_proxy import framing
from himalia_proxy.chunked import ChunkedBody
from himalia_proxy.errors import BadRequest, BadResponse
from himalia_proxy.framing import (
    CHUNKED,
    MAX_HEAD,
    UNTIL_CLOSE,
    find_head,
    parse_request,
    parse_response,
)


def head(*lines: str, first: str = "GET /a?b HTTP/1.1", host: bool = True) -> bytes:
    return "\r\n".join([first, *(["Host: h"] if host else []), *lines, "", ""]).encode("latin-1")


SMUGGLING = {
    "length twice": head("Content-Length: 5", "Content-Length: 5"),
    "length differs": head("Content-Length: 5", "Content-Length: 6"),
    "length list": head("Content-Length: 5, 5"),
    "length sign": head("Content-Length: +5"),
    "length negative": head("Content-Length: -5"),
    "length hex": head("Content-Length: 0x5"),
    "length underscore": head("Content-Length: 1_0"),
    "length empty": head("Content-Length:"),
    "length huge": head("Content-Length: 99999999999999999999"),
    "length and coding": head("Content-Length: 5", "Transfer-Encoding: chunked"),
    "coding and length": head("Transfer-Encoding: chunked", "Content-Length: 5"),
    "coding twice": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "coding list": head("Transfer-Encoding: gzip, chunked"),
    "coding unknown": head("Transfer-Encoding: xchunked"),
    "coding identity": head("Transfer-Encoding: identity"),
    "coding not last": head("Transfer-Encoding: chunked, identity"),
    "coding quoted": head('Transfer-Encoding: "chunked"'),
    "coding vertical tab": head("Transfer-Encoding: \x0bchunked"),
    "coding in 1.0": head("Transfer-Encoding: chunked", first="POST / HTTP/1.0"),
    "space before colon": head("Content-Length : 5"),
    "folded": head("X: a", " b"),
    "folded coding": head("Transfer-Encoding:", " chunked"),
    "bare cr": head("X: a\rContent-Length: 5"),
    "bare lf": head("X: a\nContent-Length: 5"),
    "nul": head("X: a\0b"),
    "no name": head(": x"),
    "no colon": head("Nothing"),
    "bracket in name": head("(X): a"),
    "space in name": head("X Y: a"),
    "leading space": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "no host": head(host=False),
    "two hosts": head("Host: i"),
    "host with path": head("Host: h/x", host=False),
    "host with user": head("Host: u@h", host=False),
    "host with space": head("Host: a b", host=False),
    "host with list": head("Host: a, b:1:2", host=False),
    "http 0.9": b"GET /\r\n\r\n",
    "http 2.0": head(first="GET / HTTP/2.0"),
    "http 1.2": head(first="GET / HTTP/1.2"),
    "preface": b"PRI * HTTP/2.0\r\n\r\n",
    "two spaces": head(first="GET  / HTTP/1.1"),
    "tab": head(first="GET\t/ HTTP/1.1"),
    "trailing space": head(first="GET / HTTP/1.1 "),
    "lower method": head(first="get / HTTP/1.1"),
    "unknown method": head(first="GETX / HTTP/1.1"),
    "connect": head(first="CONNECT h:1 HTTP/1.1"),
    "asterisk": head(first="OPTIONS * HTTP/1.1"),
    "fragment": head(first="GET /a#b HTTP/1.1"),
    "backslash": head(first="GET /a\\b HTTP/1.1"),
    "high byte": head(first="GET /\xe9 HTTP/1.1"),
    "relative": head(first="GET a HTTP/1.1"),
    "other authority": head(first="GET http://i/ HTTP/1.1"),
    "other scheme": head(first="GET file://h/ HTTP/1.1"),
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_an_ambiguous_or_malformed_head_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        parse_request(SMUGGLING[name])


def test_a_refused_head_leaves_nothing_behind_for_the_next_one() -> None:
    for bad in SMUGGLING.values():
        with pytest.raises(BadRequest):
            parse_request(bad)
        request = parse_request(head("X: y"))
        assert request.headers == [(b"Host", b"h"), (b"X", b"y")]


def test_what_one_request_says_of_its_body_is_not_carried_to_the_next() -> None:
    assert parse_request(head("Content-Length: 5", first="POST / HTTP/1.1")).body == 5
    assert parse_request(head()).body == 0
    assert parse_request(head("Transfer-Encoding: Chunked", first="POST / HTTP/1.1")).body == CHUNKED
    assert parse_request(head("Connection: close")).keep_alive is False
    assert parse_request(head("Connection: Upgrade", "Upgrade: websocket")).upgrade == b"websocket"
    assert parse_request(head()).upgrade is None
    assert parse_request(head()).keep_alive is True


def test_an_absolute_target_is_reduced_to_its_path() -> None:
    request = parse_request(head(first="GET http://H/a/b?c HTTP/1.1"))
    assert (request.target, request.query) == (b"/a/b", b"c")
    assert parse_request(head(first="GET http://h HTTP/1.1")).target == b"/"


@pytest.mark.parametrize(
    "lines", [("Upgrade: h2c", "Connection: Upgrade"), ("Upgrade: websocket",), ("Connection: upgrade",)]
)
def test_an_upgrade_that_is_not_meant_or_hides_requests_is_ignored(lines: tuple[str, ...]) -> None:
    assert parse_request(head(*lines)).upgrade is None


def test_a_head_in_pieces_is_waited_for_and_a_large_one_is_not() -> None:
    assert find_head(b"GET / HTTP/1.1\r\nHost: h\r\n") == 0
    assert find_head(b"GET / HTTP/1.1\r") == 0
    assert find_head(head() + b"body") == len(head())
    with pytest.raises(BadRequest, match="larger"):
        find_head(b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD)
    with pytest.raises(BadRequest, match="CR LF"):
        find_head(b"GET / HTTP/1.1\nHost: h\n\n")


@pytest.mark.parametrize(
    ("lines", "to_head", "body"),
    [
        (["HTTP/1.1 200 OK", "Content-Length: 5"], False, 5),
        (["HTTP/1.1 200 OK", "Content-Length: 5"], True, 0),
        (["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"], False, CHUNKED),
        (["HTTP/1.1 200 OK"], False, UNTIL_CLOSE),
        (["HTTP/1.1 204 No Content"], False, 0),
        (["HTTP/1.1 304 Not Modified", "Content-Length: 5"], False, 0),
        (["HTTP/1.1 100 Continue"], False, 0),
        (["HTTP/1.0 200"], False, UNTIL_CLOSE),
    ],
)
def test_the_length_of_an_answer_follows_from_its_head(lines: list[str], to_head: bool, body: int) -> None:
    assert parse_response("\r\n".join([*lines, "", ""]).encode(), to_head=to_head).body == body


@pytest.mark.parametrize(
    "lines",
    [
        ["HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"],
        ["HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 6"],
        ["HTTP/1.1 200 OK", "Content-Length: five"],
        ["HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"],
        ["HTTP/1.1 200 OK", "X: a", " folded"],
        ["HTTP/2 200"],
        ["HTTP/1.1 99 Low"],
        ["220 smtp.example.org"],
    ],
)
def test_an_answer_whose_end_cannot_be_told_is_not_relayed(lines: list[str]) -> None:
    with pytest.raises(BadResponse):
        parse_response("\r\n".join([*lines, "", ""]).encode(), to_head=False)


def encode(chunks: list[bytes], trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks) + b"0\r\n" + trailer + b"\r\n"


def run(body: ChunkedBody, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    out, rest = b"", b""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        if body.done:
            rest += data[start:end]
            continue
        part, behind = body.feed(data[start:end])
        out += part
        rest += behind
    return out, rest


chunk_lists = st.lists(st.binary(min_size=1, max_size=50), max_size=6)
some_cuts = st.lists(st.integers(min_value=0, max_value=1000), max_size=10)


@given(
    chunks=chunk_lists,
    cuts=some_cuts,
    behind=st.binary(max_size=20),
    trailer=st.sampled_from([b"", b"X: y\r\n"]),
)
def test_chunks_pass_unchanged_wherever_the_packets_are_cut(
    chunks: list[bytes], cuts: list[int], behind: bytes, trailer: bytes
) -> None:
    data = encode(chunks, trailer)

    kept = run(ChunkedBody(trailers=True), data + behind, cuts)
    dropped = run(ChunkedBody(), data + behind, cuts)
    decoded = run(ChunkedBody(decode=True), data + behind, cuts)

    assert kept == (data, behind)
    assert dropped == (encode(chunks), behind)
    assert decoded == (b"".join(chunks), behind)


@pytest.mark.parametrize(
    "data",
    [
        b"5\nhello", b"5;x\ny\r\nhello\r\n", b"+5\r\nhello\r\n", b"0x5\r\nhello\r\n", b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n", b"-5\r\n", b"g\r\n", b"\r\n", b"5\r\nhello!\r\n", b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloXX", b"ffffffffffffffffff\r\n", b"0\r\nNo colon\r\n\r\n", b"0\r\n X: y\r\n\r\n",
        b"5;" + b"x" * 5000, b"0\r\n" + b"X: y\r\n" * 5000, b"5\rhello", b"0\r\nX: \0\r\n\r\n",
    ],
)  # fmt: skip
@given(cuts=some_cuts)
def test_broken_chunks_are_refused_and_no_misread_line_gets_through(data: bytes, cuts: list[int]) -> None:
    body = ChunkedBody()
    with pytest.raises(ValueError):
        run(body, data, cuts)
    assert not body.done


def test_equal_fields_are_read_once_and_belong_to_each_request_alone() -> None:
    first = parse_request(head("X: y", first="GET /a?b HTTP/1.1"))
    second = parse_request(head("X: y", first="POST /c HTTP/1.1"))
    assert (second.method, second.target, second.query) == (b"POST", b"/c", None)
    assert (first.method, first.target, first.query) == (b"GET", b"/a", b"b")
    assert second.headers == first.headers
    old = parse_request(head("X: y", first="GET /a HTTP/1.0"))
    assert (old.keep_alive, second.keep_alive) == (False, True)
    for bad in ("GET /a#b HTTP/1.1", "GE(T /a HTTP/1.1", "CONNECT h:1 HTTP/1.1", "GET http://i/ HTTP/1.1"):
        with pytest.raises(BadRequest):
            parse_request(head("X: y", first=bad))


def test_remembered_fields_are_bounded() -> None:
    for number in range(2000):
        parse_request(head(f"X: {number}"))
    assert len(framing._known) <= 512
    parse_request(head("X: " + "x" * 5000))
    assert all(len(fields) <= 4096 for fields, _ in framing._known)
