"""What a hostile name, file, notebook or link may not do. Each test stands for advisories against Jupyter servers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from himalia_singleuser import convert

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def text(content: str) -> dict[str, Any]:
    return {"json": {"type": "file", "format": "text", "content": content}}


HIDDEN = [".ssh/key", "d/.env", ".local/share/jupyter/runtime/x.json", "%2eenv"]


@pytest.mark.parametrize("path", HIDDEN)
async def test_no_verb_reaches_what_is_hidden(server: Any, path: str) -> None:
    """CVE-2022-29238, CVE-2022-29241: hidden in listings only, so the token file could be read."""
    file = server.root / path.replace("%2e", ".")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("secret")
    (server.root / "seen.txt").write_text("x")
    place = f"api/contents/{path}"

    asked = [
        await server.ask("GET", place),
        await server.ask("GET", f"files/{path}"),
        await server.ask("GET", f"view/{path}"),
        await server.ask("GET", f"nbconvert/html/{path}"),
        await server.ask("PUT", place, **text("changed")),
        await server.ask("PATCH", place, json={"path": "taken.txt"}),
        await server.ask("PATCH", "api/contents/seen.txt", json={"path": path.replace("%2e", ".") + "2"}),
        await server.ask("POST", "api/contents", json={"copy_from": path.replace("%2e", ".")}),
        await server.ask("DELETE", place),
        await server.ask("GET", f"{place}/checkpoints"),
        await server.ask("POST", f"{place}/checkpoints"),
        await server.ask("POST", f"{place}/checkpoints/checkpoint"),
        await server.ask("DELETE", f"{place}/checkpoints/checkpoint"),
        await server.ask("POST", f"{place}/trust"),
    ]

    assert {answer[0] for answer in asked} <= {400, 404}
    assert "secret" not in str([answer[1] for answer in asked])
    assert file.read_text() == "secret"
    found = (await server.ask("GET", f"api/resolvePath?path={path}"))[1]["resolved"]
    assert found == []


OUTSIDE = [
    "..%2frootx/secret",
    "%2e%2e/rootx/secret",
    "d/..%2f..%2frootx%2fsecret",
    "..%5crootx%5csecret",
    "%5c%5chost%5cshare%5cx",
    "C:%5cwindows%5cx",
    "%2f%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "~/x",
    "%00",
    "a%0ab%2f..%2f..%2frootx%2fsecret",
    "%ff%fe",
    "%c0%ae%c0%ae/rootx/secret",
    "x" * 300,
    "a/" * 2100 + "b",
]


async def test_a_strange_path_stays_inside_the_root_or_is_refused(server: Any) -> None:
    """CVE-2024-35178, CVE-2026-35397: absolute and UNC paths; a sibling whose name begins like the root's."""
    sibling = server.root.parent / "rootx"
    sibling.mkdir()
    (sibling / "secret").write_text("treasure")
    for path in OUTSIDE:
        await _stays_inside(server, sibling, path)
    assert "Traceback" not in server.log.read_text()


async def _stays_inside(server: Any, sibling: Path, path: str) -> None:
    for way in (
        "api/contents/",
        "files/",
        "view/",
        "nbconvert/html/",
        "lab/api/workspaces/",
        "lab/extensions/",
    ):
        status, body, _ = await server.ask("GET", way + path)
        assert status < 500, (way, body)
        assert b"treasure" not in (body if isinstance(body, bytes) else json.dumps(body).encode())
        assert b"root:x:0" not in (body if isinstance(body, bytes) else json.dumps(body).encode())
    status, body, _ = await server.ask("PUT", f"api/contents/{path}", **text("overwritten"))
    copied = await server.ask("POST", "api/contents", json={"copy_from": f"../rootx/{path[:9]}"})

    assert (status < 500, copied[0] in {400, 404}) == (True, True)
    assert os.listdir(sibling) == ["secret"]
    assert (sibling / "secret").read_text() == "treasure"


async def test_what_people_made_never_runs_as_the_server(server: Any) -> None:
    """CVE-2015-7337, CVE-2026-44727: guessed types, and scripts in the server's origin."""
    for name in ("x.html", "x.svg", "x.xml", "x.md", "x.unknown", "x", "x.js", "x.pdf"):
        await _is_sandboxed(server, name)


async def _is_sandboxed(server: Any, name: str) -> None:
    (server.root / name).write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")

    _, _, headers = await server.ask("GET", f"files/{name}")

    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy
    if name in {"x.unknown", "x"}:
        assert headers["Content-Type"] == "application/octet-stream"


async def test_names_are_text_on_every_page(server: Any) -> None:
    """CVE-2018-19352, CVE-2024-35225: a folder's name, or a path in an error, as HTML."""
    name = "<img src=x onerror=alert(1)>"
    (server.root / f"{name}.html").write_text("x")
    quoted = name.replace(" ", "%20").replace("<", "%3C").replace(">", "%3E")

    pages = [
        await server.ask("GET", f"view/{quoted}.html"),
        await server.ask("GET", f"view/{quoted}"),
        await server.ask("GET", f"files/{quoted}"),
        await server.ask("GET", f"lab/tree/{quoted}"),
        await server.ask("GET", f"tree/{quoted}"),
        await server.ask("GET", f"nowhere/{quoted}"),
    ]

    for _, body, _ in pages:
        assert b"<img" not in (body if isinstance(body, bytes) else b"")


async def test_a_redirect_never_leaves_this_server(server: Any) -> None:
    """CVE-2020-26232, CVE-2023-39968, CVE-2025-61669: three times a path of slashes became another host."""
    for path in ("/evil.example/", "//evil.example", "%5cevil.example/", "/evil.example/%2e%2e"):
        for ask in (server.bare, server.ask):
            status, _, headers = await ask("GET", path)
            target = headers.get("Location", "/")
            assert status < 500
            assert target.startswith("/")
            assert not target.startswith(("//", "/\\"))


async def test_secrets_in_headers_cookies_and_addresses_are_in_no_log_and_no_answer(server: Any) -> None:
    """CVE-2022-24757, -24758: a 5xx wrote the request's headers, later the token in its Referer."""
    secrets = {"Cookie": "username=canary-1; _xsrf=canary-2", "Referer": "http://x/lab?token=canary-3"}
    headers = secrets | {"Authorization": "token canary-4"}
    answers = []
    for method, path in (
        ("GET", "api/contents/none?token=canary-5"),
        ("GET", "nowhere?token=canary-5"),
        ("POST", "api/contents?token=canary-5"),
        ("PUT", "login?token=canary-5"),
        ("GET", "api/kernels/x/channels?token=canary-5"),
    ):
        answers.append(await server.bare(method, path, headers=dict(headers), data=b"{"))
        own = {"Cookie": secrets["Cookie"], "Referer": secrets["Referer"]}
        answers.append(await server.ask(method, path.partition("?")[0], headers=own, data=b"{"))

    assert all(status >= 400 or status == 302 for status, _, _ in answers)
    assert "canary" not in server.log.read_text()
    assert "canary" not in str([body for _, body, _ in answers])


def with_attachment(name: str) -> dict[str, Any]:
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": f"![x](attachment:{name})"}
    return {
        "cells": [cell | {"attachments": {name: {"image/png": PNG}}}],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


async def test_pictures_of_a_converted_notebook_stay_in_its_folder(server: Any) -> None:
    """CVE-2026-39377, -39378: names of attachments that lead out of it."""
    (server.root / "n.ipynb").write_text(json.dumps(with_attachment("../../../evil.png")))

    status, body, headers = await server.ask("GET", "nbconvert/markdown/n.ipynb?download=1")

    assert (status, headers["Content-Type"]) == (200, "application/zip")
    names = zipfile.ZipFile(io.BytesIO(body)).namelist()
    assert len(names) == 2
    assert not [name for name in names if ".." in name.split("/") or name.startswith("/")]
    assert os.listdir(server.root) == ["n.ipynb"]
    assert "sandbox" in headers["Content-Security-Policy"]


def test_a_converter_has_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = listener.getsockname()
        reach = f"import socket; socket.create_connection({place!r}, 5)"
        free = subprocess.run([sys.executable, "-I", "-c", reach], capture_output=True, check=False)
        held = subprocess.run(
            [sys.executable, "-I", "-c", convert.JAIL + reach], capture_output=True, check=False
        )

    assert (free.returncode, held.returncode) == (0, 1)
    assert b"Network is unreachable" in held.stderr


BODIES = [
    *(
        b"{",
        b"[]",
        b"\xff",
        b'{"type": []}',
        b'{"type": {}}',
        b'{"type": "file", "format": [], "content": "x"}',
    ),
    *(b'{"path": 1}', b'{"path": "a\\u0000b"}', b"[" * 99_999),
]


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
async def test_no_body_is_answered_with_a_5xx(server: Any, method: str) -> None:
    for body in BODIES:
        for path in (
            "api/contents/x.txt",
            "api/contents",
            "api/contents/x.ipynb/checkpoints",
            "nbconvert/html",
        ):
            status, answer, _ = await server.ask(method, path, data=body)
            assert status < 500, (path, body[:50], answer)
    assert "Traceback" not in server.log.read_text()


async def test_a_link_that_leads_outside_is_refused_in_each_way(server: Any) -> None:
    secret = Path(server.root.parent / "secret")
    secret.write_text("treasure")
    (server.root / "x.txt").symlink_to(secret)

    ways = ("api/contents/x.txt", "files/x.txt", "view/x.txt", "nbconvert/html/x.txt")
    answers = await asyncio.gather(*(server.ask("GET", way) for way in ways))

    assert {answer[0] for answer in answers} <= {403, 404}
    listing = (await server.ask("GET", "api/contents"))[1]["content"]
    assert listing == []
