"""What clients of a Jupyter server rely on in small things: wrong types, empty bodies, other names of a route."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from component.singleuser.conftest import TOKEN
from component.singleuser.kernel_parts import running_server
from himalia_singleuser.keys import SHUTDOWN
from himalia_singleuser.terminals.pool import TERMINALS
from support import eventually

EMPTY_NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


async def test_a_file_asked_for_as_what_it_is_not_is_400_with_the_reason(server: Any) -> None:
    (server.root / "d").mkdir()
    (server.root / "x.txt").write_text("x")
    (server.root / "n.ipynb").write_text(json.dumps(EMPTY_NOTEBOOK))
    (server.root / "dangling").symlink_to("nowhere")

    for path, asked in (("d", "file"), ("x.txt", "directory")):
        status, body, _ = await server.ask("GET", f"api/contents/{path}?type={asked}")
        assert (status, body["reason"]) == (400, "bad type")
    status, body, _ = await server.ask("GET", "api/contents/x.txt?type=notebook")
    assert (status, "Unreadable Notebook: x.txt" in body["message"]) == (400, True)
    for query in ("type=file", "type=file&format=text&contentProviderId=undefined&md5=1"):
        _, model, _ = await server.ask("GET", f"api/contents/n.ipynb?{query}")
        assert (model["type"], model["format"]) == ("file", "text")
    assert (await server.ask("GET", "api/contents/dangling"))[0] in {400, 404}
    assert (await server.ask("GET", "api/contents"))[0] == 200


async def test_what_is_saved_without_a_type_a_content_or_a_body_is_made_empty(server: Any) -> None:
    async def put(path: str, **more: Any) -> tuple[int, Any]:
        status, body, _ = await server.ask("PUT", f"api/contents/{path}", **more)
        return status, body

    assert (await put("new.ipynb", json={}))[0] == 201
    assert (await put("new.txt", json={}))[0] == 201
    assert (await server.ask("GET", "api/contents/new.ipynb"))[1]["content"] == EMPTY_NOTEBOOK
    assert (server.root / "new.txt").read_text() == ""
    refused = await put("new.txt", json={"content": "x", "format": "text"})
    assert (refused[0], "No file type provided" in refused[1]["message"]) == (400, True)
    assert (await put("d", json={"type": "directory"}))[0] == 201
    assert (await put("d", json={"type": "directory"}))[0] == 200
    assert (await put("new.txt", json={"type": "directory"}))[0] == 400
    status, made = await put("d")
    assert (status, made["path"]) == (201, "d/untitled")
    assert (await put("none"))[0] == 404
    _, made, _ = await server.ask("POST", "api/contents/d", json={"type": "file", "ext": ".ipynb"})
    assert (made["path"], made["type"]) == ("d/Untitled.ipynb", "notebook")
    _, made, _ = await server.ask("POST", "api/contents/d")
    assert made["path"] == "d/untitled1"


async def test_folders_are_copied_whole_and_a_rename_to_itself_or_to_a_hidden_name_changes_nothing(
    server: Any,
) -> None:
    (server.root / "d").mkdir()
    (server.root / "d/x").write_text("x")
    (server.root / ".d").mkdir()

    status, made, _ = await server.ask("POST", "api/contents", json={"copy_from": "d"})

    assert (status, made["path"], made["type"]) == (201, "d-Copy1", "directory")
    assert (server.root / "d-Copy1/x").read_text() == "x"
    assert (await server.ask("PATCH", "api/contents/d", json={"path": "d"}))[0] == 200
    assert (await server.ask("PATCH", "api/contents/d", json={"path": ".e"}))[0] == 400
    assert (await server.ask("POST", "api/contents", json={"copy_from": ".d"}))[0] in {400, 404}
    assert (server.root / "d/x").read_text() == "x"


async def test_old_and_other_names_of_routes_lead_on(server: Any) -> None:
    (server.root / "x.html").write_text("<b>x</b>")
    status, _, headers = await server.ask("GET", "api/notebooks/x.html")
    assert (status, headers["Location"]) == (302, "/api/contents/x.html")
    assert (await server.ask("GET", "api/contents/none/checkpoints"))[:2] == (200, [])
    assert (await server.bare("GET", "favicon.ico"))[0] == 200
    assert (await server.bare("GET", "robots.txt"))[0] == 200
    status, page, headers = await server.ask("GET", "view/x.html")
    assert (status, b"sandbox" in page, b"files/x.html" in page) == (200, True, True)
    assert (await server.ask("GET", "view/none.html"))[0] == 404
    head = await server.ask("HEAD", "files/x.html")
    assert (head[0], head[2]["Content-Length"], head[2]["Cache-Control"]) == (200, "8", "no-cache")
    (server.root / "n.ipynb").write_text(json.dumps(EMPTY_NOTEBOOK))
    _, _, headers = await server.ask("GET", "files/n.ipynb")
    assert headers["Content-Type"] == "application/x-ipynb+json"
    assert headers["Content-Disposition"] == "attachment; filename*=utf-8''n.ipynb"


async def test_who_one_is_and_may_be_asked_and_changed(server: Any) -> None:
    asked = quote('{"contents": ["read", "write"], "nothing": ["x"]}')
    _, me, _ = await server.ask("GET", f"api/me?permissions={asked}")
    assert me["permissions"]["contents"] == ["read", "write"]
    assert {"username", "name", "display_name", "initials", "avatar_url", "color"} <= me["identity"].keys()
    for junk in ("{", "[]", '{"contents": 1}'):
        assert (await server.ask("GET", f"api/me?permissions={quote(junk)}"))[0] == 400
    for body in ({}, {"username": "root"}, {"nothing": "x"}, []):
        assert (await server.ask("PATCH", "api/me", json=body))[0] == 400
    status, body, headers = await server.ask("GET", "api/spec.yaml")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/x-yaml")
    assert b"swagger" in body
    config = server.home / ".jupyter/serverconfig"
    (config / "layer.d").mkdir(parents=True)
    (config / "layer.d/a.json").write_text('{"a": 1, "b": {"c": 1}}')
    (config / "layer.json").write_text('{"b": {"d": 2}}')
    assert (await server.ask("GET", "api/config/layer"))[1] == {"a": 1, "b": {"c": 1, "d": 2}}
    assert (await server.ask("GET", "api/config/a.b"))[0] == 404


async def test_the_xsrf_value_may_come_in_any_of_three_places(server: Any) -> None:
    _, _, headers = await server.bare("GET", f"lab?token={TOKEN}")
    cookies = [value.split(";")[0] for value in headers.getall("Set-Cookie")]
    value = next(one.removeprefix("_xsrf=") for one in cookies if one.startswith("_xsrf="))
    login = next(one for one in headers.getall("Set-Cookie") if one.startswith("username-"))
    assert "HttpOnly" in login
    assert "Max-Age=2592000" in login
    cookie = {"Cookie": "; ".join(cookies)}

    for more, query in (({"X-XSRFToken": value}, ""), ({"X-CSRFToken": value}, ""), ({}, f"?_xsrf={value}")):
        answer = await server.bare("POST", f"api/contents{query}", headers=cookie | more, json={})
        assert answer[0] == 201, (more, query)
    refused = await server.bare("POST", "api/contents", headers=cookie, json={})
    assert (refused[0], refused[1]["message"]) == (403, "'_xsrf' argument missing from POST")
    assert (await server.bare("GET", "login?next=/lab/tree/x", headers=cookie))[2][
        "Location"
    ] == "/lab/tree/x"
    report = await server.bare("POST", "api/security/csp-report", headers=cookie, data="{}")
    assert report[0] < 300


@pytest.mark.parametrize(("allowed", "answered"), [("*", "*"), ("https://a.example", "https://a.example")])
async def test_an_allowed_origin_is_told(start: Any, allowed: str, answered: str) -> None:
    server = await start(args=("--allow-origin", allowed))
    _, _, headers = await server.ask("GET", "api/status", headers={"Origin": "https://a.example"})
    assert headers["Access-Control-Allow-Origin"] == answered


async def test_custom_styles_and_defaults_of_a_site_reach_the_pages(server: Any) -> None:
    (server.home / ".jupyter/custom").mkdir(parents=True)
    (server.home / ".jupyter/custom/custom.css").write_text("b{}")
    assert (await server.ask("GET", "custom/custom.css"))[1] == b"b{}"
    config = server.home / ".jupyter/labconfig"
    config.mkdir(parents=True)
    config.joinpath("default_setting_overrides.json").write_text(
        json.dumps({"@jupyterlab/apputils-extension:themes": {"theme": "JupyterLab Dark"}})
    )
    config.joinpath("page_config.json").write_text('{"disabledExtensions": {"@x/y": true, "@x/z": false}}')
    _, entry, _ = await server.ask("GET", "lab/api/settings/@jupyterlab/apputils-extension:themes")
    assert entry["schema"]["properties"]["theme"]["default"] == "JupyterLab Dark"
    page = (await server.ask("GET", "lab"))[1].decode()
    assert "@x/y" in page
    assert "@x/z" not in page


async def test_two_gigabytes_at_once_are_refused_before_any_of_them_is_read(server: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        head = f"PUT /api/contents/big.bin HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: token {TOKEN}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {2**31}\r\n\r\n{{".encode())
        status = await reader.readline()
        answer = await reader.read(4096)
    finally:
        writer.close()
        await writer.wait_closed()

    assert b" 413 " in status
    assert b"in chunks" in answer
    assert (await server.ask("GET", "api/contents/big.bin"))[0] == 404


async def test_a_folder_of_more_than_half_a_gigabyte_is_not_copied(server: Any) -> None:
    (server.root / "large").mkdir()
    with (server.root / "large" / "holes.bin").open("wb") as file:
        file.truncate(501 * 2**20)

    status, body, _ = await server.ask("POST", "api/contents", json={"copy_from": "large"})

    assert (status, "500 MB" in body["message"]) == (400, True)
    assert [path.name for path in server.root.iterdir()] == ["large"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "api/status", 302), ("POST", "api/kernels", 307)]
)
async def test_a_slash_too_many_leads_to_the_path_without_it_and_keeps_the_query(
    server: Any, method: str, path: str, status: int
) -> None:
    found, _, headers = await server.ask(method, f"{path}/?a=%2F")
    assert (found, headers["Location"]) == (status, f"/{path}?a=%2F")


async def test_who_comes_to_the_login_with_the_token_is_signed_in_and_led_on(server: Any) -> None:
    status, _, headers = await server.bare("GET", f"login?next=/lab/tree/x&token={TOKEN}")

    assert (status, headers["Location"]) == (302, "/lab/tree/x")
    cookie = next(one for one in headers.getall("Set-Cookie") if one.startswith("username-"))
    assert (await server.bare("GET", "api/me", headers={"Cookie": cookie.partition(";")[0]}))[0] == 200
    status, _, headers = await server.ask("GET", "login?next=//evil.example")
    assert (status, headers["Location"]) == (302, "/")
    assert (await server.bare("GET", "login?token=wrong"))[0] == 200


async def test_the_list_of_extensions_says_that_there_is_one_page_of_it(server: Any) -> None:
    status, found, headers = await server.ask(
        "GET", "lab/api/extensions?query=x&page=1&per_page=30&refresh=0"
    )

    assert (status, found) == (200, [])
    assert headers["Link"] == (
        '</lab/api/extensions?page=1>; rel="first", </lab/api/extensions?page=1>; rel="last"'
    )


async def test_idle_kernels_and_terminals_are_ended_by_a_server_that_is_told_so(start: Any) -> None:
    server = await start(args=("--cull-kernels", "0.2"), environ={"HIMALIA_CULL_TERMINALS": "0.2"})
    assert (await server.ask("POST", "api/kernels", json={}))[0] == 201
    assert (await server.ask("POST", "api/terminals", json={}))[0] == 200

    async def nothing_runs() -> bool:
        return [(await server.ask("GET", path))[1] for path in ("api/kernels", "api/terminals")] == [[], []]

    await eventually(nothing_runs, within_s=60)
    assert '"kernel.culled"' in server.log.read_text()
    assert '"terminal.culled"' in server.log.read_text()


async def test_a_server_that_nobody_uses_ends_itself(start: Any) -> None:
    server = await start(args=("--stop-when-idle", "1"))

    assert await asyncio.wait_for(server.process.wait(), 60) == 0

    assert '"server.idle"' in server.log.read_text()


async def test_a_server_in_which_something_runs_is_not_idle(tmp_path: Path) -> None:
    running: list[int] = []
    async with running_server(tmp_path, stop_when_idle_s=0.2) as server:
        await server.ask("POST", "api/terminals", json={})
        server.app[SHUTDOWN].append(lambda: running.append(len(server.app[TERMINALS].all())))
        socket = await server.http.ws_connect(f"{server.url}terminals/websocket/1")
        server.sockets.append(socket)
        await socket.send_json(["stdin", "sleep 1; exit\r"])
        await eventually(lambda: running, within_s=60)

    assert running[0] == 0
