"""Every route, asked by somebody who means no good: each is answered, none with a fault of the server's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from component.singleuser.conftest import Running
from component.singleuser.route_parts import PLACEHOLDER, filled
from himalia_singleuser.app import all_routes

EMPTY = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
EVENT = "https://events.jupyter.org/jupyter_server/contents_service/v1"
ENDS = {"/api/shutdown", "/logout"}
"""Not asked for: they would end the server, or the log-in."""
HEEDFUL = {
    *("/api/contents/{path:.+}", "/files/{path:.+}", "/login", "/api/status", "/static/lab/{path:.+}"),
    *("/lab/api/workspaces/{name:.+}", "/api/events/subscribe", "/lsp/ws/{name}", "/custom/custom.css"),
    "/{mode:lab|doc}{rest:(?:/(?!api/|extensions/).+)?}",
}
"""One of each kind of reader of headers; what all share is read before any of them."""
AT_ONCE = 16

PATHS = [
    *("x%00y", "%ff", "..%2f..", "a%2fb", "x" * 300, "a/" * 300, "%0d%0aX:1", "%25", "%zz", "é", "~", "%2e"),
    *("%5c", "-rf", "%f0%9f%98%80", "%ed%a0%80", "%D9%A3"),
]
QUERIES = [
    *("content=x&hash=2", "format=x", "type=[]", "path=%00", "path=%ff", "id=%00", "permissions=%5B%5B", "%"),
    *(
        "permissions=" + "%5B" * 2000,
        "bundles=(",
        "session_id=%00",
        "page=x&per_page=-1",
        "ids_only=x",
        "x" * 5000,
    ),
    *("outputs=x", "next=%00", "=&&&", "path=a&kernel=x"),
]
HEADERS = [
    *(
        {"Range": f"bytes={value}"}
        for value in ("-", "1-0", "-0", "99999-", "0-" + "9" * 5000, "٣-٤", "0-,1-")
    ),
    *({"If-Match": value} for value in ("", "*", "x", '"', "é")),
    *({"If-None-Match": value} for value in ("*", 'W/"x"')),
    {"If-Modified-Since": "Sun, 06 Nov 9999999 08:49:37 GMT"},
    {"If-Range": "x", "Range": "bytes=0-0"},
    *({"Content-Type": f"text/plain; charset={value}"} for value in ("nosuch", "utf-16")),
    {"Content-Type": "multipart/form-data"},
    *({"Content-Encoding": value} for value in ("gzip", "x")),
    *({"Origin": value} for value in ("null", "http://[::bad")),
    *({"Host": value} for value in ("[::bad", "a b", "")),
    {"Referer": "http://[::bad"},
    {"Cookie": '_xsrf="\\'},
    {"Upgrade": "websocket"},
    {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "99",
        "Sec-WebSocket-Key": "x",
    },
]
BODIES = [
    *(b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b"[" * 99_999, b'{"a":' * 50_000, b'{"a":1e999}'),
    *(
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 930 + b"1" + b"}" * 930,
    ),
]
VALUES: list[Any] = [
    *(None, True, 0, -1, 1 << 80, "", "x\0y", "\ud800", [], {}, [[]], {"a": None}, "../../x", "x" * 5000),
]
FIELDS: dict[tuple[str, str], tuple[dict[str, Any], str]] = {
    ("POST", "api/contents"): ({}, "type ext copy_from"),
    ("PUT", "api/contents/x.txt"): (
        {"type": "file", "format": "text", "content": "x"},
        "type format content chunk name path",
    ),
    ("PUT", "api/contents/n.ipynb"): ({"type": "notebook", "content": EMPTY}, "type format content chunk"),
    ("PATCH", "api/contents/x.txt"): ({}, "path"),
    ("POST", "api/kernels"): ({"name": "nosuch"}, "path kernel_id"),
    ("POST", "api/sessions"): (
        {"path": "n.ipynb", "type": "notebook", "kernel": {"name": "nosuch"}},
        "path type name kernel",
    ),
    ("POST", "api/terminals"): ({"name": "/"}, "cwd"),
    ("POST", "api/events"): (
        {"schema_id": EVENT, "version": "1", "data": {"action": "get", "path": "a"}},
        "schema_id version data timestamp",
    ),
    ("PATCH", "api/me"): ({}, "username name color initials avatar_url"),
    ("PUT", "api/config/x"): ({}, "x"),
    ("PATCH", "api/config/x"): ({}, "x"),
    ("PUT", "lab/api/settings/@jupyterlab/apputils-extension:themes"): ({}, "raw"),
    ("PUT", "lab/api/workspaces/w"): ({"data": {}, "metadata": {"id": "w"}}, "data metadata"),
    ("POST", "nbconvert/nosuch"): ({"name": "n", "content": EMPTY}, "name content"),
}


class Asked:
    """Asks for much at once, and keeps what should not have been answered."""

    def __init__(self, server: Running) -> None:
        self._server, self._turn = server, asyncio.Semaphore(AT_ONCE)
        self.amiss: list[tuple[Any, ...]] = []

    async def ask(self, method: str, path: str, what: object = None, **more: Any) -> None:
        async with self._turn:
            status, body, _ = await self._server.ask(method, path, **more)
        # 501 is the contract's word for a kernel or a format that is not installed.
        good = status < 500 or status == 501
        if status == 400 and isinstance(body, dict):
            good = isinstance(body["message"], str) and body["message"] not in {"", "Bad Request"}
        if not good:
            self.amiss.append((method, path[:80], str(what)[:80], status, str(body)[:200]))

    async def all(self, wanted: Iterable[tuple[Any, ...]]) -> None:
        await asyncio.gather(
            *(self.ask(method, path, what, **more) for method, path, what, more in wanted),
        )
        assert self.amiss == []
        assert "Traceback" not in self._server.log.read_text()


def routes() -> list[tuple[str, str]]:
    """(method, path) of all that may be asked for without end; a conversion takes seconds each."""
    return [
        (route.method, route.path)
        for route in all_routes()
        if route.path not in ENDS and not (route.path.startswith("/nbconvert") and route.method == "GET")
    ]


async def test_no_path_query_or_header_breaks_any_route(server: Running) -> None:
    assert {route for _, route in routes()} >= HEEDFUL
    (server.root / "x.ipynb").write_text(json.dumps(EMPTY))
    wanted: list[tuple[Any, ...]] = []
    for method, route in routes():
        body = {} if method in {"GET", "HEAD"} else {"data": b"{"}
        if PLACEHOLDER.search(route):
            for odd in PATHS:
                given = dict.fromkeys(("path", "rest"), f"/{odd}") | dict.fromkeys(
                    ("name", "plugin", "file"), odd
                )
                given |= dict.fromkeys(("locale", "section", "id", "format", "kernel_id", "session_id"), odd)
                wanted.append((method, filled(route, given), odd, body))
        path = filled(route)
        if method == "GET":
            wanted += [(method, f"{path}?{query}", query, {}) for query in QUERIES]
        if route in HEEDFUL:
            wanted += [(method, path, headers, body | {"headers": dict(headers)}) for headers in HEADERS]
        wanted += [(other, path, None, {}) for other in ("HEAD", "OPTIONS", "TRACE", "FOO", "PROPFIND")]
        wanted += [(method, odd, None, body) for odd in (f"{path}/", f"/{path}", path.replace("/", "//"))]

    await Asked(server).all(wanted)


async def test_no_body_breaks_any_route(server: Running) -> None:
    (server.root / "x.ipynb").write_text(json.dumps(EMPTY))
    changing = [
        (method, filled(route)) for method, route in routes() if method not in {"GET", "HEAD", "DELETE"}
    ]
    # A kernel or a terminal starts by a body without any field that it knows.
    starts = {("POST", "api/kernels"), ("POST", "api/terminals")}
    wanted = [
        (method, path, body[:20], {"data": body})
        for method, path in changing
        for body in BODIES
        if (method, path) not in starts or body.startswith((b"[", b'"', b"\xff"))
    ]

    await Asked(server).all(wanted)


async def test_no_field_of_another_type_breaks_any_route(server: Running) -> None:
    (server.root / "n.ipynb").write_text(json.dumps(EMPTY))
    _, session, _ = await server.ask(
        "POST", "api/sessions", json={"path": "n.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    )
    kernel = session["kernel"]["id"]
    fields = FIELDS | {
        ("PATCH", f"api/sessions/{session['id']}"): ({}, "path name type"),
        ("POST", f"api/kernels/{kernel}/runs/take-over"): ({}, "session_id msg_id path runs"),
    }
    wanted = [
        (method, path, {field: value}, {"data": json.dumps(body | {field: value})})
        for (method, path), (body, names) in fields.items()
        for field in names.split()
        for value in VALUES
    ]
    wanted += [
        ("PATCH", f"api/sessions/{session['id']}", inner, {"json": {"kernel": inner}})
        for inner in (
            {"id": 1},
            {"id": []},
            {"id": "x"},
            {"id": "\0"},
            {"name": 1},
            {"name": "nosuch"},
            {"name": []},
        )
    ]

    await Asked(server).all(wanted)

    assert (await server.ask("GET", "api/sessions"))[0] == 200
    assert (await server.ask("GET", f"api/kernels/{kernel}"))[1]["execution_state"] == "idle"


async def test_what_is_no_http_costs_one_line_of_the_log_that_repeats_nothing_of_it(server: Running) -> None:
    lines = (
        b"GET /lab?token=canary HTTP/9.9\r\n",
        b"GET /lab?token=canary\x01 HTTP/1.1\r\nHost: x\r\n",
        b"GET /lab HTTP/1.1\r\nAuthorization : token canary\r\n",
        b"G\xffT /?token=canary HTTP/1.1\r\n",
    )
    for line in lines:
        # The second request of a connection: the first may have been meant for another kind of server.
        first = b"GET /api HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(first)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(line + b"\r\n")
            await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    log = server.log.read_text()
    assert log.count('"request.malformed"') == len(lines)
    assert "canary" not in log
    assert "Traceback" not in log


async def test_half_a_surrogate_pair_leaves_a_notebook_that_everybody_can_read(server: Running) -> None:
    cell = {"cell_type": "raw", "id": "a", "metadata": {}, "source": "a\ud800b"}
    saved = {"type": "notebook", "content": EMPTY | {"cells": [cell]}}

    assert (await server.ask("PUT", "api/contents/n.ipynb", json=saved))[0] == 201

    on_disk = json.loads((server.root / "n.ipynb").read_text("utf-8"))
    assert on_disk["cells"][0]["source"] == ["a\ud800b"]
    assert (await server.ask("GET", "api/contents/n.ipynb"))[1]["content"]["cells"][0]["source"] == "a\ud800b"
