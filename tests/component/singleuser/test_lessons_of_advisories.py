"""What past advisories of this class of server would have needed, where `test_hostile_content.py` has no such test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from component.singleuser.conftest import TOKEN, Running
from component.singleuser.kernel_parts import running_server
from component.singleuser.route_parts import filled
from himalia_singleuser.app import all_routes, make_app
from himalia_singleuser.auth_marks import PUBLIC, access_of
from himalia_singleuser.lingering import LingeringRunner
from himalia_singleuser.settings import Settings

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}


async def test_no_route_lets_a_stranger_in_by_any_method_or_as_a_websocket(server: Running) -> None:
    """CVE-2024-28179: WebSockets that nobody checked; CVE-2024-28188: routes without a check at all."""
    routes = {
        (route.method, filled(route.path)) for route in all_routes() if access_of(route.handler) != PUBLIC
    }
    assert len(routes) > 70

    for method, path in sorted(routes):
        for headers in ({}, UPGRADE if method == "GET" else {}, {"Authorization": "token wrong"}):
            status, body, answer = await server.bare(method, path, headers=dict(headers))
            led_away = status == 302 and answer["Location"].startswith("/login?next=")
            assert status == 403 or led_away, (method, path, headers, status, body)


async def test_a_handler_that_does_not_say_who_may_use_it_lets_nobody_in(tmp_path: Path) -> None:
    """CVE-2024-22415, -28188: an extension's handler that forgot its decorator."""

    async def forgetful(_: web.Request) -> web.Response:
        return web.Response(text="treasure")

    async with running_server(tmp_path) as server:
        app = make_app(Settings(root_dir=server.root, token="t"))
        app.router.add_get("/api/forgotten", forgetful)
        runner = LingeringRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with server.http.get(f"http://127.0.0.1:{runner.addresses[0][1]}/api/forgotten") as answer:
                assert (answer.status, "treasure" in await answer.text()) == (403, False)
        finally:
            await runner.cleanup()


async def test_what_the_server_keeps_for_itself_cannot_be_read_where_its_root_is_the_home(
    start: Any, tmp_path: Path
) -> None:
    """CVE-2022-29241: the token in the runtime folder, through the contents API."""
    home = tmp_path / "home"
    config = home / ".jupyter"
    config.mkdir(parents=True)
    (config / "himalia_password").write_text("argon2:hash")
    server = await start(args=("--root", str(home)))
    await server.ask("POST", "api/kernels", json={})
    own = [file for file in home.rglob("*") if file.is_file()]
    assert len(own) > 1

    for file in own:
        path = file.relative_to(home)
        assert (await server.ask("GET", f"api/contents/{path}"))[0] == 404
        assert (await server.ask("GET", f"files/{path}"))[0] == 404


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.trusted.example.evil.com",
        "https://eviltrusted.example.com",
        "https://evil.com/https://a.trusted.example",
        "https://a.trusted.example\t.evil.com",
        "null",
    ],
)
async def test_an_allowed_origin_must_match_as_a_whole(start: Any, origin: str) -> None:
    """CVE-2026-40110: `re.match` let `trusted.evil.com` in."""
    server = await start(args=("--allow-origin-pat", r"https://\w+\.trusted\.example"))

    async def allowed(origin: str) -> Any:
        _, _, headers = await server.bare("GET", "api", headers={"Origin": origin})
        return headers.get("Access-Control-Allow-Origin")

    assert await allowed("https://a.trusted.example") == "https://a.trusted.example"
    assert await allowed(origin) is None


@pytest.mark.parametrize(
    "name", ["evil", "Evil", "e_v.i-l", "evil>=1", "evil @ https://x/y.whl", "-r /etc/passwd"]
)
@pytest.mark.parametrize("cmd", ["install", "enable", "uninstall"])
async def test_no_spelling_of_a_name_installs_an_extension(server: Running, name: str, cmd: str) -> None:
    """CVE-2026-42266, CVE-2026-73416: rules that only the page obeyed, and a name written otherwise."""
    told = await server.ask("POST", "lab/api/extensions", json={"cmd": cmd, "extension_name": name})
    plugin = await server.ask("POST", "lab/api/plugins", json={"cmd": "disable", "plugin_name": name})

    assert (told[0], plugin[0]) == (403, 403)
    assert "admin" in told[1]["message"]


@pytest.mark.parametrize(
    "host", ["<script>alert(1)</script>", 'x"onload=alert(1)', "evil.example:80", "[::bad"]
)
async def test_no_error_repeats_the_host_it_was_asked_for_as_html(server: Running, host: str) -> None:
    """CVE-2024-35225: the page of an error showed the host as it came."""
    for path in ("lab", "api/status", "nowhere", "files/x"):
        status, body, _ = await server.bare("GET", path, headers={"Host": host})
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert status < 500
        assert b"<script>alert" not in text
        assert b'"onload=alert' not in text


async def test_scripts_of_other_sites_get_nothing_by_the_cookie(server: Running) -> None:
    """CVE-2023-40170: another site's page loads a file as its script."""
    (server.root / "data.js").write_text("treasure")
    _, _, headers = await server.bare("GET", f"lab?token={TOKEN}")
    cookie = "; ".join(one.partition(";")[0] for one in headers.getall("Set-Cookie"))
    assert all("SameSite=" in one for one in headers.getall("Set-Cookie"))
    for referer in ({}, {"Referer": "http://evil.example/"}, {"Origin": "http://evil.example"}):
        for path in ("files/data.js", "nbconvert/html/x.ipynb"):
            status, body, _ = await server.bare("GET", path, headers={"Cookie": cookie, **referer})
            assert (status in {403, 404}, b"treasure" in (body if isinstance(body, bytes) else b"")) == (
                True,
                False,
            )


async def test_a_foreign_name_that_leads_to_this_machine_is_refused_and_nothing_is_fetched_for_anybody(
    tmp_path: Path,
) -> None:
    """CVE-2022-21697: a host check that was passed, and a server that fetched what the address named."""
    async with running_server(tmp_path) as server:
        port = server.url.split(":")[2].partition("/")[0]
        for host in (f"evil.example:{port}", "169.254.169.254", "127.0.0.1.evil.example", "[::bad", "0"):
            for path in ("api", "api/status", "lab", "login", "files/x", "api/events/subscribe"):
                async with server.http.get(server.url + path, headers={"Host": host}) as answer:
                    assert answer.status == (200 if path == "api" else 403), (host, path)
        for path in (
            f"proxy/{port}/api",
            f"proxy/127.0.0.1:{port}/api",
            f"proxy/absolute/{port}/user/ada/api",
        ):
            async with server.http.get(server.url + path) as answer:
                assert answer.status == 404


async def test_no_page_of_a_server_behind_a_hub_may_be_framed_and_its_files_have_no_origin(
    start: Any, hub: Any
) -> None:
    """CVE-2025-23205: on one origin `frame-ancestors 'self'` lets people read each other's pages."""
    server = await start(base="/user/ada/", environ=hub.environ())
    hub.tokens["visitor"] = "ada"
    headers = {"Authorization": "token visitor"}
    (server.root / "x.html").write_text("<b>x</b>")
    for path in (
        "lab",
        "tree",
        "doc",
        "view/x.html",
        "api",
        "api/status",
        "login",
        "nowhere",
        "lab/api/nowhere",
    ):
        _, _, answer = await server.bare("GET", path, headers=headers)
        assert "frame-ancestors 'none'" in answer["Content-Security-Policy"], path
    status, _, answer = await server.bare("GET", "files/x.html", headers=headers)
    assert (status, "sandbox allow-scripts" in answer["Content-Security-Policy"]) == (200, True)
    assert "allow-same-origin" not in answer["Content-Security-Policy"]
