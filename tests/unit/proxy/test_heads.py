"""What crosses the proxy in the heads of requests and answers."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_proxy.framing import parse_request, parse_response
from himalia_proxy.headers import HOP_BY_HOP, ForwardRules, forward_head, moved, relay_head, without_port
from himalia_proxy.target import parse_target

TARGET = parse_target("http://10.0.0.1:8888")
RULES = ForwardRules()


def forward(
    *lines: str,
    first: str = "GET /a HTTP/1.1",
    host: str = "hub.org:8000",
    tls: bool = False,
    rules: ForwardRules = RULES,
    target: str | None = None,
) -> tuple[str, list[tuple[str, str]]]:
    raw = "\r\n".join([first, f"Host: {host}", *lines, "", ""]).encode("latin-1")
    request = parse_request(raw)
    goal = parse_target(target) if target else TARGET
    out = forward_head(request, request.target, goal, rules, client=b"1.2.3.4", tls=tls)
    return split(out)


def split(out: bytes) -> tuple[str, list[tuple[str, str]]]:
    assert out.endswith(b"\r\n\r\n")
    first, *rest = out[:-4].decode("latin-1").split("\r\n")
    return first, [(name.lower(), value) for name, _, value in (line.partition(": ") for line in rest)]


def test_ordinary_headers_cross_in_order_and_unchanged() -> None:
    line, headers = forward("Accept: a", "Cookie: x=1", "X-Empty:", "Cookie: y=2", "X: é")
    assert line == "GET /a HTTP/1.1"
    assert headers[:6] == [
        ("host", "hub.org:8000"), ("accept", "a"), ("cookie", "x=1"), ("x-empty", ""), ("cookie", "y=2"), ("x", "é"),
    ]  # fmt: skip


names = st.text("abcdefgh-", min_size=1, max_size=8).map(lambda name: f"x-{name}")


@given(
    named=st.lists(names, max_size=4),
    present=st.lists(names, max_size=6),
    hops=st.sets(st.sampled_from(sorted(HOP_BY_HOP))),
)
def test_hop_by_hop_and_connection_named_headers_never_cross(
    named: list[str], present: list[str], hops: set[bytes]
) -> None:
    hops -= {b"connection", b"transfer-encoding"}
    lines = [f"Connection: {', '.join(named)}"] if named else []
    lines += [f"{name}: v" for name in present] + [f"{hop.decode()}: v" for hop in hops]

    _, headers = forward(*lines)

    crossed = {name for name, _ in headers if not name.startswith("x-forwarded")} - {"host"}
    assert crossed == set(present) - set(named)


def test_connection_cannot_name_away_the_framing_or_the_host() -> None:
    _, headers = forward(
        "Connection: content-length, host, x-forwarded-for", "Content-Length: 5", first="POST /a HTTP/1.1"
    )
    assert dict(headers)["content-length"] == "5"
    assert dict(headers)["host"] == "hub.org:8000"
    assert dict(headers)["x-forwarded-for"] == "1.2.3.4"


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "POST"])
def test_a_chunked_body_is_announced_as_such_and_has_no_length(method: str) -> None:
    _, headers = forward("Transfer-Encoding: chunked", first=f"{method} /a HTTP/1.1")
    assert dict(headers)["transfer-encoding"] == "chunked"
    assert "content-length" not in dict(headers)


def test_a_length_of_zero_is_repeated() -> None:
    assert dict(forward("Content-Length: 0", first="POST /a HTTP/1.1")[1])["content-length"] == "0"


def test_forwarded_headers_tell_what_the_proxy_saw() -> None:
    headers = dict(forward()[1])
    assert headers["x-forwarded-for"] == "1.2.3.4"
    assert headers["x-forwarded-port"] == "8000"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == "hub.org:8000"


def test_forwarded_headers_are_appended_to_earlier_ones_but_the_first_host_stays() -> None:
    _, headers = forward(
        "X-Forwarded-For: 9.9.9.9", "X-Forwarded-For: 8.8.8.8", "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443", "X-Forwarded-Host: outer.org",
    )  # fmt: skip
    names_seen = [name for name, _ in headers]
    assert len(names_seen) == len(set(names_seen))
    seen = dict(headers)
    assert seen["x-forwarded-for"] == "9.9.9.9,8.8.8.8,1.2.3.4"
    assert seen["x-forwarded-proto"] == "https,http"
    assert seen["x-forwarded-port"] == "443,8000"
    assert seen["x-forwarded-host"] == "outer.org"


@pytest.mark.parametrize(
    ("tls", "host", "proto", "port"),
    [(False, "h", "ws", "80"), (True, "h", "wss", "443"), (True, "[::1]:8443", "wss", "8443")],
)
def test_a_websocket_handshake_keeps_its_upgrade_and_says_ws(
    tls: bool, host: str, proto: str, port: str
) -> None:
    _, headers = forward("Connection: keep-alive, Upgrade", "Upgrade: websocket", host=host, tls=tls)
    seen = dict(headers)
    assert seen["upgrade"] == "websocket"
    assert seen["connection"] == "Upgrade"
    assert (seen["x-forwarded-proto"], seen["x-forwarded-port"]) == (proto, port)
    assert "x-forwarded-host" not in seen


def test_options_shape_the_head() -> None:
    rules = ForwardRules(x_forward=False, change_origin=True, custom=((b"X-Key", b"k"),))
    _, headers = forward("x-key: from client", "X-Forwarded-For: 9.9.9.9", rules=rules)
    assert headers == [("host", "10.0.0.1:8888"), ("x-forwarded-for", "9.9.9.9"), ("x-key", "k")]


def test_queries_of_target_and_request_are_merged() -> None:
    assert forward(first="GET /a?q=1 HTTP/1.1", target="http://h:1/?t=2")[0] == "GET /a?t=2&q=1 HTTP/1.1"
    assert forward(first="GET /a? HTTP/1.1")[0] == "GET /a? HTTP/1.1"


def relay(
    *lines: str, version: int = 1, close: bool = False, to_head: bool = False
) -> tuple[str, list[tuple[str, str]]]:
    response = parse_response("\r\n".join([*lines, "", ""]).encode("latin-1"), to_head=to_head)
    return split(relay_head(response, version=version, close=close))


def test_an_answers_head_crosses_with_status_reason_and_repeated_headers() -> None:
    line, headers = relay("HTTP/1.1 418 I'm a teapot", "Set-Cookie: a", "Content-Length: 3", "Set-Cookie: b")
    assert line == "HTTP/1.1 418 I'm a teapot"
    assert headers == [("set-cookie", "a"), ("content-length", "3"), ("set-cookie", "b")]


def test_an_answers_connection_is_the_proxys_own() -> None:
    _, headers = relay(
        "HTTP/1.1 200 OK", "Connection: close, X-Secret", "X-Secret: s", "Keep-Alive: 5", "Content-Length: 3"
    )
    assert headers == [("content-length", "3")]
    assert relay("HTTP/1.1 200 OK", "Content-Length: 3", close=True)[1][-1] == ("connection", "close")


@pytest.mark.parametrize("lines", [("Transfer-Encoding: chunked",), ()])
def test_an_answer_without_length_is_chunked_for_1_1_and_unframed_for_1_0(lines: tuple[str, ...]) -> None:
    assert relay("HTTP/1.1 200 OK", *lines)[1] == [("transfer-encoding", "chunked")]
    assert relay("HTTP/1.1 200 OK", *lines, version=0)[1] == []


def test_a_length_stays_where_it_describes_an_absent_body_and_goes_where_none_may_be() -> None:
    assert ("content-length", "7") in relay("HTTP/1.1 200 OK", "Content-Length: 7", to_head=True)[1]
    assert ("content-length", "7") in relay("HTTP/1.1 304 Not Modified", "Content-Length: 7")[1]
    assert relay("HTTP/1.1 204 No Content", "Content-Length: 0")[1] == []


REWRITING = ForwardRules(auto_rewrite=True, protocol_rewrite=b"https")


@pytest.mark.parametrize(
    ("location", "rules", "seen"),
    [
        ("http://10.0.0.1:8888/x?y#z", REWRITING, "https://hub.org/x?y#z"),
        ("http://10.0.0.1:8888", REWRITING, "https://hub.org"),
        ("http://10.0.0.1:8888/x", ForwardRules(auto_rewrite=True), "http://hub.org/x"),
        ("http://10.0.0.1:8888/x", ForwardRules(protocol_rewrite=b"https"), "https://10.0.0.1:8888/x"),
        ("http://10.0.0.1:8889/x", REWRITING, "http://10.0.0.1:8889/x"),
        ("http://10.0.0.1/x", REWRITING, "http://10.0.0.1/x"),
        ("http://10.0.0.1:8888@evil/x", REWRITING, "http://10.0.0.1:8888@evil/x"),
        ("/x", REWRITING, "/x"),
        ("//10.0.0.1:8888/x", REWRITING, "//10.0.0.1:8888/x"),
        ("mailto://10.0.0.1:8888", REWRITING, "mailto://10.0.0.1:8888"),
    ],
)
def test_only_redirects_to_the_target_itself_are_rewritten(
    location: str, rules: ForwardRules, seen: str
) -> None:
    assert moved(location.encode(), TARGET, b"hub.org", rules) == seen.encode()


def test_an_address_in_brackets_keeps_them_without_its_port() -> None:
    assert without_port(b"[::1]:80") == b"[::1]"
    assert without_port(b"[::1]") == b"[::1]"
    assert without_port(b"h:") == b"h"
    target = parse_target("http://[::1]:8888")
    assert moved(b"http://[::1]:8888/x", target, b"hub", REWRITING) == b"https://hub/x"


@pytest.mark.parametrize(
    ("networks", "client", "kept"),
    [
        (None, b"1.2.3.4", True),
        (("1.2.3.0/24",), b"1.2.3.4", True),
        (("1.2.3.0/24",), b"::ffff:1.2.3.4", True),
        (("10.0.0.0/8", "fd00::/8"), b"1.2.3.4", False),
        (("fd00::/8",), b"fd00::1", True),
        (("fd00::/8",), b"fe80::1%eth0", False),
        (("10.0.0.0/8",), b"", True),
    ],
)
def test_what_a_client_says_of_earlier_hops_is_passed_on_if_it_is_trusted(
    networks: tuple[str, ...] | None, client: bytes, kept: bool
) -> None:
    rules = ForwardRules(trusted=None if networks is None else tuple(ip_network(one) for one in networks))
    lines = [
        "X-Forwarded-For: 9.9.9.9",
        "X-Forwarded-Host: evil",
        "Forwarded: for=9.9.9.9",
        "X-Real-IP: 9.9.9.9",
    ]
    raw = "\r\n".join(["GET / HTTP/1.1", "Host: hub.org", *lines, "", ""]).encode()
    request = parse_request(raw)
    _, headers = split(forward_head(request, b"/", TARGET, rules, client=client, tls=False))
    said = " ".join(value for name, value in headers if "forwarded" in name or name == "x-real-ip")
    assert ("9.9.9.9" in said) == kept
    assert dict(headers)["x-forwarded-host"] == ("evil" if kept else "hub.org")


def test_the_hop_is_told_as_rfc_7239_writes_it_when_asked() -> None:
    for client, shown in ((b"1.2.3.4", "for=1.2.3.4"), (b"fd00::1", 'for="[fd00::1]"'), (b"", "for=unknown")):
        request = parse_request(b"GET / HTTP/1.1\r\nHost: hub.org:1\r\nForwarded: for=a\r\n\r\n")
        rules = ForwardRules(forwarded=True)
        _, headers = split(forward_head(request, b"/", TARGET, rules, client=client, tls=True))
        hops = [value for name, value in headers if name == "forwarded"]
        assert hops == ["for=a", f'{shown};host="hub.org:1";proto=https']
