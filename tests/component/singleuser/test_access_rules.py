"""Who gets in, alone: token, cookie, origin, XSRF, host names, slashes."""

from __future__ import annotations

import re
from typing import Any

import pytest

TOKEN = "open-sesame"
TEXT = {"json": {"type": "file", "format": "text", "content": "x"}}


async def cookies_of(server: Any) -> tuple[str, str]:
    """The Cookie header of a browser that opened the page with the token, and its XSRF value."""
    status, _, headers = await server.bare("GET", f"lab?token={TOKEN}")
    assert status == 200
    cookies = [value.split(";")[0] for value in headers.getall("Set-Cookie")]
    xsrf = next(cookie.removeprefix("_xsrf=") for cookie in cookies if cookie.startswith("_xsrf="))
    return "; ".join(cookies), xsrf


async def test_strangers_get_403_json_on_the_api_and_the_login_on_pages(server: Any) -> None:
    status, body, _ = await server.bare("GET", "api/contents")
    assert (status, body) == (403, {"message": "Forbidden", "reason": None})
    status, _, headers = await server.bare("GET", "lab/tree/a?x=1")
    assert (status, headers["Location"]) == (302, "/login?next=/lab/tree/a%3Fx%3D1")
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    assert (await server.bare("GET", "api/events/subscribe", headers=upgrade))[0] == 403
    assert (await server.bare("GET", "api"))[0] == 200
    assert (await server.bare("GET", "api/status", headers={"Authorization": "token wrong"}))[0] == 403


@pytest.mark.parametrize("value", ["token open-sesame", "Bearer open-sesame", "TOKEN open-sesame"])
async def test_the_token_opens_the_api(server: Any, value: str) -> None:
    assert (await server.bare("GET", "api/status", headers={"Authorization": value}))[0] == 200


async def test_the_page_token_becomes_a_cookie_that_opens_everything(server: Any) -> None:
    cookie, _ = await cookies_of(server)

    first = await server.bare("GET", "api/me", headers={"Cookie": cookie})
    second = await server.bare("GET", "api/me", headers={"Cookie": cookie})

    assert first[0] == 200
    assert first[1]["identity"] == second[1]["identity"]


async def test_a_forged_cookie_is_refused_and_cleared(server: Any) -> None:
    cookie, _ = await cookies_of(server)
    name = re.search(r"username-[^=]+", cookie)
    assert name
    status, _, headers = await server.bare("GET", "lab", headers={"Cookie": f"{name[0]}=abc.123.def"})
    assert (status, headers["Location"]) == (302, "/login?next=/lab")
    assert "Max-Age=0" in headers["Set-Cookie"]
    status, body, headers = await server.bare("GET", "api/me", headers={"Cookie": f"{name[0]}=abc.123.def"})
    assert (status, body) == (403, {"message": "Forbidden", "reason": None})
    assert (name[0] in headers["Set-Cookie"], "Max-Age=0" in headers["Set-Cookie"]) == (True, True)
    assert "Set-Cookie" not in (await server.bare("GET", "api/me"))[2], "a missing cookie is not cleared"


async def test_changes_by_cookie_need_the_xsrf_value(server: Any) -> None:
    cookie, xsrf = await cookies_of(server)

    async def put(**headers: str) -> int:
        headers = {"Cookie": cookie, **{key.replace("_", "-"): value for key, value in headers.items()}}
        return (await server.bare("PUT", "api/contents/x.txt", headers=headers, **TEXT))[0]

    assert await put() == 403
    assert await put(X_XSRFToken="wrong") == 403
    assert await put(X_XSRFToken=xsrf) == 201
    planted = cookie.replace(xsrf, "planted")
    headers = {"Cookie": planted, "X-XSRFToken": "planted"}
    assert (await server.bare("PUT", "api/contents/x.txt", headers=headers, **TEXT))[0] == 403


async def test_downloads_by_cookie_must_come_from_our_pages(server: Any) -> None:
    (server.root / "x.txt").write_text("x")
    cookie, xsrf = await cookies_of(server)

    async def get(path: str, **headers: str) -> int:
        return (await server.bare("GET", path, headers={"Cookie": cookie, **headers}))[0]

    assert await get("files/x.txt") == 403
    assert await get("files/x.txt", Referer="http://evil.example/") == 403
    assert await get("files/x.txt", **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert await get("files/x.txt", Referer=f"{server.origin}/lab") == 200
    assert await get(f"files/x.txt?_xsrf={xsrf}") == 200


async def test_other_sites_cannot_use_the_cookie(server: Any) -> None:
    cookie, _ = await cookies_of(server)
    evil = {"Cookie": cookie, "Origin": "http://evil.example"}

    status, body, headers = await server.bare("GET", "api/contents", headers=evil)

    assert (status, body["message"]) == (404, "Not Found")
    assert "Access-Control-Allow-Origin" not in headers
    with_token = {"Authorization": f"token {TOKEN}", "Origin": "http://evil.example"}
    status, _, headers = await server.bare("GET", "api/contents", headers=with_token)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "http://evil.example")
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", **evil}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    assert (await server.bare("GET", "api/events/subscribe", headers=upgrade))[0] == 403


async def test_the_login_form_takes_the_token_and_stays_on_this_server(server: Any) -> None:
    page = await server.bare("GET", "login?next=/lab/tree/x")
    wrong = await server.bare("POST", "login", data={"password": "no"})
    right = await server.bare("POST", "login?next=%2Flab%2Ftree%2Fx", data={"password": TOKEN})

    assert (page[0], b'name="password"' in page[1]) == (200, True)
    assert wrong[0] == 401
    assert (right[0], right[2]["Location"]) == (302, "/lab/tree/x")
    cookie = right[2]["Set-Cookie"].split(";")[0]
    assert (await server.bare("GET", "api/me", headers={"Cookie": cookie}))[0] == 200
    for target in (
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:x",
        "/%0d%0ax",
        "",
    ):
        answer = await server.bare("POST", f"login?next={target}", data={"password": TOKEN})
        assert answer[2]["Location"] == "/", target
    out = await server.bare("GET", "logout", headers={"Cookie": cookie})
    assert (out[0], "Max-Age=0" in out[2]["Set-Cookie"]) == (200, True)


async def test_paths_with_slashes_too_many_lead_to_the_right_one(server: Any) -> None:
    assert (await server.ask("GET", "lab/?a=1"))[2]["Location"] == "/lab?a=1"
    assert (await server.ask("GET", "/evil.example/lab/"))[2]["Location"] == "/evil.example/lab"
    assert (await server.ask("GET", ""))[2]["Location"] == "/lab"


async def test_unknown_paths_are_pages_and_wrong_methods_405(server: Any) -> None:
    status, body, headers = await server.bare("GET", "api/nosuch")
    assert (status, headers["Content-Type"], b"Traceback" in body) == (404, "text/html; charset=utf-8", False)
    status, _, headers = await server.ask("DELETE", "api/status")
    assert (status, headers["Allow"]) == (405, "GET")
    assert (await server.ask("HEAD", "api/status"))[0] == 405
    status, _, headers = await server.bare("OPTIONS", "api/contents")
    assert (status, "PATCH" in headers["Access-Control-Allow-Methods"]) == (200, True)


async def test_every_answer_carries_the_safety_headers(server: Any) -> None:
    for path in ("api", "api/contents", "lab", "nosuch", "static/lab/nosuch.js"):
        _, _, headers = await server.bare("GET", path)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith(
            "frame-ancestors 'self'; report-uri /api/security"
        )
        assert "Server" not in headers
    assert "default-src 'none'" in (await server.bare("GET", "api"))[2]["Content-Security-Policy"]


async def test_unchanged_json_is_answered_with_304(server: Any) -> None:
    _, _, headers = await server.ask("GET", "api/sessions")
    status, body, _ = await server.ask("GET", "api/sessions", headers={"If-None-Match": headers["Etag"]})
    assert (status, body) == (304, b"")


async def test_looking_at_the_status_is_no_activity(server: Any) -> None:
    _, before, _ = await server.ask("GET", "api/status")
    await server.ask("GET", "api/contents?no_track_activity=1")
    await server.ask("GET", "metrics")
    _, same, _ = await server.ask("GET", "api/status")
    await server.ask("GET", "api/contents")
    _, after, _ = await server.ask("GET", "api/status")

    assert before["last_activity"] == same["last_activity"] < after["last_activity"]


async def test_neither_token_nor_cookie_is_ever_logged(server: Any) -> None:
    cookie, xsrf = await cookies_of(server)
    await server.ask("GET", f"api/contents/none?token={TOKEN}")
    report = {"Cookie": cookie, "Content-Type": "application/csp-report"}
    await server.bare("POST", "api/security/csp-report", headers=report, data=f'"lab?token={TOKEN}&a"')
    await server.stop()

    log = server.log.read_text()
    assert "csp.violated" in log
    assert TOKEN not in log
    assert xsrf not in log
