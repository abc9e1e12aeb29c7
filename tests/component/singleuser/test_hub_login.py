"""Behind a hub: the OAuth dance, who may enter, and what is told to the hub."""

from __future__ import annotations

from typing import Any

from yarl import URL

from support import eventually

BASE = "/user/ada/"


async def signed_in(server: Any, path: str = "lab") -> str:
    """The Cookie header of a browser after the whole dance."""
    status, _, headers = await server.bare("GET", path)
    assert status == 302
    state_cookie = headers["Set-Cookie"].split(";")[0]
    back = await arrive(server, headers["Location"])
    status, _, headers = await server.bare("GET", back, headers={"Cookie": state_cookie})
    assert status == 302, server.log.read_text()
    return next(c.split(";")[0] for c in headers.getall("Set-Cookie") if c.startswith("jupyterhub-user-ada="))


async def arrive(server: Any, location: str) -> str:
    """Follow the redirect to the hub and back: the path of the callback below the base URL."""
    hub_url = server.hub.url + location
    async with server.http.get(URL(hub_url, encoded=True), allow_redirects=False) as answer:
        assert answer.status == 302
        return answer.headers["Location"].removeprefix(BASE)


async def behind(start: Any, hub: Any, **environ: str) -> Any:
    server = await start(base=BASE, environ=hub.environ() | environ)
    server.hub = hub
    return server


async def test_a_visitor_is_led_through_the_hub_and_back_to_the_page(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    status, _, headers = await server.bare("GET", "lab/tree/x.txt?reset")
    assert status == 302
    asked = URL(headers["Location"])
    assert (asked.path, asked.query["client_id"]) == ("/hub/api/oauth2/authorize", "jupyterhub-user-ada")
    assert asked.query["redirect_uri"] == "/user/ada/oauth_callback"
    state_cookie = headers["Set-Cookie"]
    assert "HttpOnly" in state_cookie
    assert "Path=/user/ada/" in state_cookie

    back = await arrive(server, headers["Location"])
    cookie = state_cookie.split(";")[0]
    status, _, headers = await server.bare("GET", back, headers={"Cookie": cookie})

    assert (status, headers["Location"]) == (302, "/user/ada/lab/tree/x.txt?reset")
    assert hub.exchanges[0]["grant_type"] == "authorization_code"
    login = next(c for c in headers.getall("Set-Cookie") if c.startswith("jupyterhub-user-ada="))
    page = await server.bare("GET", "lab", headers={"Cookie": login.split(";")[0]})
    assert page[0] == 200
    assert b'"hubPrefix": "/hub/"' in page[1]
    assert b'"hubUser": "ada"' in page[1]
    assert b"server-secret" not in page[1]
    me = await server.bare("GET", "api/me", headers={"Cookie": login.split(";")[0]})
    assert me[1]["identity"]["username"] == "ada"


async def test_the_hub_is_asked_once_for_many_requests(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    cookie = await signed_in(server)
    hub.asked_who = 0

    for _ in range(5):
        assert (await server.bare("GET", "api/status", headers={"Cookie": cookie}))[0] == 200

    assert hub.asked_who == 0


async def test_a_login_survives_a_restart_of_the_server_and_a_hub_that_is_away(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    cookie = await signed_in(server)
    hub.broken = True
    assert (await server.bare("GET", "api/status", headers={"Cookie": cookie}))[0] == 200
    await server.stop()
    again = await behind(start, hub)

    status, body, _ = await again.bare("GET", "api/status", headers={"Cookie": cookie})
    hub.broken = False

    assert (status, "hub does not answer" in body["message"]) == (502, True)
    assert (await again.bare("GET", "api/status", headers={"Cookie": cookie}))[0] == 200


async def test_somebody_without_the_access_scope_stays_outside(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    hub.user, hub.scopes = "eve", ["access:servers!user=eve", "access:servers!server=adam/"]
    status, _, headers = await server.bare("GET", "lab")
    cookie = headers["Set-Cookie"].split(";")[0]
    back = await arrive(server, headers["Location"])

    status, body, _ = await server.bare("GET", back, headers={"Cookie": cookie})

    assert (status, b"eve may not use this server" in body) == (403, True)
    hub.tokens["eves"] = "eve"
    assert (await server.bare("GET", "api/status", headers={"Authorization": "token eves"}))[0] == 403


async def test_visitors_are_shown_by_the_name_that_the_hub_has_for_them(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    for token, info, name, initials in (
        ("a", None, "ada", "A"),
        ("b", {"display_name": "Ada Lovelace"}, "Ada Lovelace", "AL"),
    ):
        hub.tokens[token], hub.info = "ada", info
        _, me, _ = await server.bare("GET", "api/me", headers={"Authorization": f"Bearer {token}"})
        shown = me["identity"]
        assert (shown["username"], shown["display_name"], shown["initials"]) == ("ada", name, initials)


async def test_wider_scopes_and_hub_tokens_open_the_server(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    for token, scope in (("a", "access:servers!user=ada"), ("b", "access:servers")):
        hub.tokens[token], hub.scopes = "grace", [scope]
        answer = await server.bare("GET", "api/me", headers={"Authorization": f"Bearer {token}"})
        assert (answer[0], answer[1]["identity"]["username"]) == (200, "grace")
    put = {"json": {"type": "file", "format": "text", "content": "x"}}
    headers = {"Authorization": "token a"}
    assert (await server.bare("PUT", "api/contents/x.txt", headers=headers, **put))[0] == 201
    assert (await server.bare("GET", "api/status", headers={"Authorization": "token unknown"}))[0] == 403
    assert (await server.bare("GET", "api/status?token=a"))[0] == 403, "tokens in URLs are for sockets only"


async def test_programs_get_403_not_a_redirect(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    assert (await server.bare("GET", "api/contents"))[:2] == (403, {"message": "Forbidden", "reason": None})
    assert (await server.bare("POST", "lab"))[0] in {403, 405}


async def test_a_cookie_that_opens_nothing_any_more_is_taken_back(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    cookie = await signed_in(server)
    hub.tokens.clear()
    await server.stop()
    again = await behind(start, hub)  # what the first one remembered of the token went with it

    for path, status in (("api/contents", 403), ("api/events/subscribe", 403), ("lab", 302)):
        answer = await again.bare("GET", path, headers={"Cookie": cookie})
        assert answer[0] == status
        assert taken_back(answer[2]) == ["jupyterhub-user-ada"], path
    assert taken_back((await again.bare("GET", "api/contents"))[2]) == [], "none was sent"
    wrong = {"Cookie": cookie, "Authorization": "token wrong"}
    assert taken_back((await again.bare("GET", "api/contents", headers=wrong))[2]) == [], (
        "nobody looked at it"
    )


def taken_back(headers: Any) -> list[str]:
    """The names of the cookies that an answer asks the browser to forget."""
    return [
        one.partition("=")[0] for one in headers.getall("Set-Cookie", []) if "Max-Age=0" in one.split("; ")
    ]


async def test_a_callback_that_nobody_asked_for_is_refused(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    hub.codes["stolen"] = {"code_challenge": "x"}

    assert (await server.bare("GET", "oauth_callback?code=stolen&state=made-up"))[0] == 403
    assert (await server.bare("GET", "oauth_callback?code=stolen"))[0] == 400
    refused = await server.bare("GET", "oauth_callback?error=access_denied&error_description=%3Cb%3E")
    assert (refused[0], b"&lt;b&gt;" in refused[1]) == (403, True)
    assert hub.exchanges == []


async def test_two_tabs_log_in_at_the_same_time(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    first = await server.bare("GET", "lab/tree/one")
    second = await server.bare("GET", "lab/tree/two")
    cookie = "; ".join(answer[2]["Set-Cookie"].split(";")[0] for answer in (first, second))

    targets = []
    for answer in (second, first):
        back = await arrive(server, answer[2]["Location"])
        targets.append((await server.bare("GET", back, headers={"Cookie": cookie}))[2]["Location"])

    assert targets == ["/user/ada/lab/tree/two", "/user/ada/lab/tree/one"]


async def test_logout_forgets_the_cookie_and_goes_on_to_the_hub(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    cookie = await signed_in(server)

    status, _, headers = await server.bare("GET", "logout", headers={"Cookie": cookie})

    assert (status, headers["Location"]) == (302, "/hub/logout")
    assert "Max-Age=0" in headers["Set-Cookie"]


async def test_activity_is_reported_under_the_servers_name(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    first = await eventually(lambda: hub.activity)
    assert first[0]["last_activity"] == first[0]["servers"][""]["last_activity"]
    cookie = await signed_in(server)

    async def moved() -> bool:
        await server.bare("GET", "api/contents", headers={"Cookie": cookie})
        return bool(hub.activity[-1]["last_activity"] > first[0]["last_activity"])

    await eventually(moved)


async def test_the_hub_can_see_that_the_server_is_up(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    status, body, headers = await server.bare("GET", "api")
    assert (status, "version" in body) == (200, True)
    assert headers["X-JupyterHub-Version"].startswith("6.")
    assert headers["Content-Security-Policy"].startswith("frame-ancestors 'none'")


async def test_a_prefix_with_odd_letters_is_served(start: Any, hub: Any) -> None:
    server = await start(base="/user/a%40b%20%C3%BC/", environ=hub.environ("/user/a%40b%20%C3%BC/"))
    assert (await server.bare("GET", "api"))[0] == 200
    status, _, headers = await server.bare("GET", "lab")
    assert (status, "Path=/user/a@b%20%C3%BC/" in headers["Set-Cookie"]) == (302, True)


async def test_no_secret_is_logged(start: Any, hub: Any) -> None:
    server = await behind(start, hub)
    cookie = await signed_in(server)
    await server.stop()

    log = server.log.read_text()
    for secret in ("server-secret", "visitor-0", "code-0", cookie.partition("=")[2]):
        assert secret not in log
