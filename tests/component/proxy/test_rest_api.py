"""The REST API: the same laws for our proxy and the official one, and where ours is stricter."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from component.proxy.parts import TOKEN, RunningProxy, answering, raw_target, running
from himalia_proxy.api import BITE
from himalia_proxy.base import ProxyError, Route
from himalia_proxy.client import HttpProxy
from hubs import free_port
from support import eventually

T = {"target": "http://127.0.0.1:1"}


async def test_a_route_that_was_added_is_listed_with_its_data_and_last_activity(either: RunningProxy) -> None:
    status, text = await either.call(
        "POST", "/api/routes/user/ada", {**T, "user": "ada", "nested": {"a": [1]}}
    )
    assert (status, text) == (201, "")

    status, text = await either.call("GET", "/api/routes")

    table = json.loads(text)
    moment = table["/user/ada"].pop("last_activity")
    assert (status, table) == (200, {"/user/ada": {**T, "user": "ada", "nested": {"a": [1]}}})
    assert len(moment) == len("2026-11-23T10:00:00.000Z")
    assert abs(datetime.fromisoformat(moment) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_one_route_is_read_by_its_exact_path(either: RunningProxy) -> None:
    await either.call("POST", "/api/routes/user/ada", T)
    for path, status in (("/user/ada", 200), ("/user/ada/", 200), ("/user", 404), ("/user/ada/x", 404)):
        answer = await either.call("GET", f"/api/routes{path}")
        assert answer[0] == status, path
    assert json.loads((await either.call("GET", "/api/routes/user/ada"))[1])["target"] == T["target"]


async def test_the_root_alone_gives_the_whole_table(either: RunningProxy) -> None:
    await either.call("POST", "/api/routes", T)
    for path in ("/api/routes", "/api/routes/"):
        assert set(json.loads((await either.call("GET", path))[1])) == {"/"}


async def test_adding_again_replaces_all_data(either: RunningProxy) -> None:
    await either.call("POST", "/api/routes/a", {**T, "old": 1})
    await either.call("POST", "/api/routes/a/", {**T, "new": 2})
    route = json.loads((await either.call("GET", "/api/routes/a"))[1])
    assert set(route) == {"target", "new", "last_activity"}


async def test_deleting_answers_204_then_404_and_leaves_children(either: RunningProxy) -> None:
    for path in ("/a", "/a/b", ""):
        await either.call("POST", f"/api/routes{path}", T)
    assert await either.call("DELETE", "/api/routes/a") == (204, "")
    assert (await either.call("DELETE", "/api/routes/a"))[0] == 404
    assert await either.call("DELETE", "/api/routes/") == (204, "")
    assert set(json.loads((await either.call("GET", "/api/routes"))[1])) == {"/a/b"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("/user/%C3%A9@x", "/user/é@x"),
        ("/user/a%40b", "/user/a@b"),
        ("/user%2Fada", "/user/ada"),
        ("/user/a%20b/", "/user/a b"),
        ("/user/%25", "/user/%"),
        ("/%F0%9F%AA%90", "/🪐"),
    ],
)
async def test_paths_are_kept_decoded_and_without_the_last_slash(
    either: RunningProxy, sent: str, kept: str
) -> None:
    assert (await either.call("POST", f"/api/routes{sent}", T))[0] == 201
    assert set(json.loads((await either.call("GET", "/api/routes"))[1])) == {kept}
    assert (await either.call("GET", f"/api/routes{sent}"))[0] == 200
    assert (await either.call("DELETE", f"/api/routes{sent}"))[0] == 204


@pytest.mark.parametrize("token", [None, "wrong", ""])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_without_the_token_nothing_is_told_or_done(
    either: RunningProxy, token: str | None, method: str
) -> None:
    body = T if method == "POST" else None
    assert await either.call(method, "/api/routes/a", body, token=token) == (403, "")


async def test_an_unknown_method_is_refused_before_the_token_is_looked_at(either: RunningProxy) -> None:
    assert (await either.call("PUT", "/api/routes/a", T, token=None))[0] == 405
    assert (await either.call("PATCH", "/api/routes/a"))[0] == 405


@pytest.mark.parametrize("path", ["/", "/api", "/api/route", "/api/routesx", "/user/a"])
async def test_elsewhere_there_is_nothing(either: RunningProxy, path: str) -> None:
    assert (await either.call("GET", path))[0] == 404


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"x"', b"{}", b'{"target": 1}', b'{"target": null}', b"null"]
)
async def test_a_body_without_a_target_is_refused(either: RunningProxy, raw: bytes) -> None:
    assert (await either.call("POST", "/api/routes/a", raw=raw))[0] == 400
    assert json.loads((await either.call("GET", "/api/routes"))[1]) == {}


@pytest.mark.parametrize("name", ["inactive_since", "inactiveSince"])
async def test_inactive_routes_are_those_older_than_the_given_time(either: RunningProxy, name: str) -> None:
    await either.call("POST", "/api/routes/a", T)
    future = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for query, expected in (
        (f"?{name}={future}", {"/a"}),
        (f"?{name}=2001-01-01T00:00:00.000Z", set()),
        (f"?{name}=", {"/a"}),
        ("", {"/a"}),
    ):
        status, text = await either.call("GET", f"/api/routes{query}")
        assert (status, set(json.loads(text))) == (200, expected), query
    assert (await either.call("GET", f"/api/routes?{name}=yesterday"))[0] == 400


async def test_the_client_speaks_to_either_proxy(either: RunningProxy) -> None:
    client = HttpProxy(either.api, "the-proxy-token")
    try:
        await client.put(Route("/", "http://127.0.0.1:1", {"hub": True}))
        await client.put(Route("/user/é@x/~y/", "http://127.0.0.1:2", {"user": "é@x"}))

        routes = await client.routes()
        assert set(routes) == {"/", "/user/é@x/~y/"}
        assert routes["/user/é@x/~y/"].target == "http://127.0.0.1:2"
        assert set(routes["/"].data) == {"hub", "last_activity"}
        assert (await client.get("/")).target == "http://127.0.0.1:1"
        assert (await client.get("/user/é@x/~y/")).data["user"] == "é@x"
        assert await client.get("/user/") is None

        for _ in range(2):
            await client.delete("/user/é@x/~y/")
            await client.delete("/")
        assert await client.routes() == {}
        assert await client.get("/") is None
    finally:
        await client.close()


async def test_routes_that_are_put_at_one_moment_are_all_there(either: RunningProxy) -> None:
    client = HttpProxy(either.api, "the-proxy-token")
    routes = [Route(f"/user/é@{n}/", f"http://127.0.0.1:{n}", {"user": f"é@{n}"}) for n in range(1, 100)]
    try:
        await asyncio.gather(*map(client.put, routes))

        there = await client.routes()
    finally:
        await client.close()
    assert {spec: (one.target, one.data["user"]) for spec, one in there.items()} == {
        one.routespec: (one.target, one.data["user"]) for one in routes
    }


async def test_a_crowd_of_routes_takes_few_requests_and_the_one_that_is_refused_fails_alone(
    proxy: RunningProxy,
) -> None:
    client = HttpProxy(proxy.api, TOKEN)
    crowd = [Route(f"/{n}/", "http://127.0.0.1:1") for n in range(40)]
    before = proxy.log.read_text().count("api.called")
    await asyncio.gather(*map(client.put, crowd))
    assert proxy.log.read_text().count("api.called") - before <= 2

    bad = Route("/bad/", "ftp://h")
    said = await asyncio.gather(*map(client.put, [crowd[0], crowd[1], bad]), return_exceptions=True)

    assert [isinstance(one, ProxyError) for one in said] == [False, False, True]
    assert "/bad/" not in await client.routes()
    await client.close()


async def test_a_route_whose_putting_was_cancelled_while_it_waited_is_not_put(proxy: RunningProxy) -> None:
    client = HttpProxy(proxy.api, TOKEN)
    first, second, third = (
        asyncio.create_task(client.put(Route(f"/{n}/", "http://127.0.0.1:1"))) for n in range(3)
    )
    await asyncio.sleep(0)  # they are in the queue now
    second.cancel()

    await asyncio.gather(first, third)

    assert set(await client.routes()) == {"/0/", "/2/"}
    await client.close()


async def test_the_client_says_which_call_failed_and_why(proxy: RunningProxy) -> None:
    for url, token, said in (
        (proxy.api, "wrong", "answered 403"),
        (f"http://127.0.0.1:{free_port()}", "t", "GET http://127.0.0.1:"),
    ):
        client = HttpProxy(url, token)
        with pytest.raises(ProxyError, match=said) as caught:
            await client.routes()
        assert "wrong" not in str(caught.value)
        await client.close()


async def test_a_target_nothing_could_be_sent_to_is_refused_with_its_reason(proxy: RunningProxy) -> None:
    status, text = await proxy.call("POST", "/api/routes/a", {"target": "ftp://h"})
    assert status == 400
    assert "ftp://h" in text


@pytest.mark.parametrize("path", ["/%zz", "/%", "/%ff"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_malformed_escape_is_answered_and_not_left_hanging(
    proxy: RunningProxy, path: str, method: str
) -> None:
    assert (await proxy.call(method, f"/api/routes{path}", T if method == "POST" else None))[0] == 400


async def test_without_a_token_the_api_is_open_and_the_log_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, token=None) as proxy:
        assert (await proxy.call("GET", "/api/routes", token=None))[0] == 200
        assert "CONFIGPROXY_AUTH_TOKEN is not set" in proxy.log.read_text()


async def test_the_root_is_deleted_with_or_without_its_slash(proxy: RunningProxy) -> None:
    for path in ("/api/routes", "/api/routes/"):
        await proxy.call("POST", "/api/routes", T)
        assert (await proxy.call("DELETE", path))[0] == 204
        assert (await proxy.call("DELETE", path))[0] == 404


async def test_the_api_can_listen_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with running(tmp_path, "--api-socket", str(path)) as proxy:
        client = HttpProxy("http+unix://" + str(path).replace("/", "%2F"), TOKEN)
        await client.put(Route("/a/", "http://127.0.0.1:1"))
        assert set(await client.routes()) == {"/a/"}
        await client.close()
        assert await proxy.stop() == 0
    assert not path.exists()


async def test_calls_are_logged_by_how_they_ended_and_proxied_requests_only_if_they_failed(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as proxy, raw_target(answering()) as target:
        await proxy.route("/a", target.url)
        await proxy.call("GET", "/api/routes/none")
        for path in ("/a/quiet", "/loud"):
            async with proxy.session.get(proxy.url + path):
                pass
        text = proxy.log.read_text()
    assert "INFO api.called status=201 method=POST path=/api/routes/a" in text
    assert "WARNING api.called status=404 method=GET path=/api/routes/none" in text
    assert "WARNING request.failed status=404 method=GET path=/loud" in text
    assert "/a/quiet" not in text


async def test_no_secret_reaches_the_log(tmp_path: Path) -> None:
    async with running(tmp_path, "--log-level", "debug") as proxy:
        await proxy.call("GET", "/api/routes?token=query-secret")
        await proxy.call("GET", "/api/routes", token="header-secret")
        headers = {"Cookie": "c=cookie-secret"}
        async with proxy.session.get(f"{proxy.url}/nowhere?token=query-secret", headers=headers) as answer:
            assert answer.status == 404
        text = proxy.log.read_text()
    assert "/nowhere" in text
    assert "secret" not in text
    assert TOKEN not in text


async def test_one_call_changes_many_routes_or_none(proxy: RunningProxy) -> None:
    async def routes() -> dict[str, str]:
        table = json.loads((await proxy.call("GET", "/api/routes"))[1])
        return {path: data["target"] for path, data in table.items()}

    one, two = "http://127.0.0.1:1", "http://127.0.0.1:2"
    assert await proxy.call("PUT", "/api/routes", {"/": {"target": one}, "/a/": {"target": one}}) == (204, "")
    assert await routes() == {"/": one, "/a": one}
    assert (
        await proxy.call("PATCH", "/api/routes", {"/a": {"target": two}, "/": None, "b": {"target": one}})
    )[0] == 204
    assert await routes() == {"/a": two, "/b": one}
    for bad in ({"/c": {"target": one}, "/d": {"target": "ftp://x"}}, {"/c": 1}, {"/c": {}}, [], "x"):
        for method in ("PUT", "PATCH"):
            assert (await proxy.call(method, "/api/routes", bad))[0] == 400, bad
    assert (await proxy.call("PUT", "/api/routes", {"/c": None}))[0] == 400
    assert await routes() == {"/a": two, "/b": one}
    assert (await proxy.call("PUT", "/api/routes", {}, token="wrong"))[0] == 403
    assert (await proxy.call("PUT", "/api/routes", {}))[0] == 204
    assert await routes() == {}


@pytest.mark.parametrize("number", [1, 2 * BITE, 2 * BITE + 1])
async def test_a_table_of_any_size_is_written_and_read_whole(proxy: RunningProxy, number: int) -> None:
    wanted = {
        f"/user/p{one}/": Route(f"/user/p{one}/", f"http://127.0.0.1:{one + 1}") for one in range(number)
    }
    table = {spec: {"target": route.target} for spec, route in wanted.items()}
    assert (await proxy.call("PUT", "/api/routes", table))[0] == 204
    client = HttpProxy(proxy.api, TOKEN)
    try:
        found = await client.routes()
    finally:
        await client.close()
    assert {spec: route.target for spec, route in found.items()} == {s: r.target for s, r in wanted.items()}


async def test_a_route_that_is_named_again_unchanged_keeps_its_activity(proxy: RunningProxy) -> None:
    async def activity() -> dict[str, str]:
        return {
            p: d["last_activity"] for p, d in json.loads((await proxy.call("GET", "/api/routes"))[1]).items()
        }

    table = {"/a": {"target": "http://127.0.0.1:1", "user": "a"}, "/b": {"target": "http://127.0.0.1:1"}}
    await proxy.call("PUT", "/api/routes", table)
    before = await activity()
    ports = itertools.count(2)

    async def moved() -> bool:
        # Again and again: the clock may have stood still since, or been put back.
        table["/b"]["target"] = f"http://127.0.0.1:{next(ports)}"
        await proxy.call("PUT", "/api/routes", table)
        after = await activity()
        assert after["/a"] == before["/a"]
        return after["/b"] > before["/b"]

    await eventually(moved)
