"""Target URLs."""

from __future__ import annotations

import pytest

from himalia_proxy.errors import BadTarget
from himalia_proxy.target import parse_target


@pytest.mark.parametrize(
    ("url", "host", "port", "netloc"),
    [
        ("http://127.0.0.1:8888", "127.0.0.1", 8888, b"127.0.0.1:8888"),
        ("http://jupyter-ada.ns_1.svc/", "jupyter-ada.ns_1.svc", 80, b"jupyter-ada.ns_1.svc"),
        ("https://[::1]:9000/base", "::1", 9000, b"[::1]:9000"),
    ],
)
def test_a_url_names_where_to_connect(url: str, host: str, port: int, netloc: bytes) -> None:
    target = parse_target(url)
    assert (target.host, target.port, target.netloc) == (host, port, netloc)


@pytest.mark.parametrize("scheme", ["http+unix", "unix+http"])
def test_a_unix_target_names_its_socket_as_an_escaped_host(scheme: str) -> None:
    target = parse_target(f"{scheme}://%2Frun%2Fa.sock/user/ada/")
    assert (target.socket, target.path) == ("/run/a.sock", b"/user/ada")


@pytest.mark.parametrize(
    "url",
    [
        "", "nothing", "ftp://h", "http://", "http://:80", "http://h:0", "http://h:99999", "http://h:x",
        "http://u:p@h", "http://h/#f", "http://h/\r\nX: y", "http://h/ x", "http+unix://relative",
        "http+unix://", "http+unix://%2F" + "x" * 120, "http://h\\x", "file:///etc/passwd", "http://é/",
    ],
)  # fmt: skip
def test_a_url_that_no_request_could_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(BadTarget):
        parse_target(url)
