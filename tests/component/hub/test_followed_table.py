"""Further proxies ask a hub for the table and follow it: adding one is only starting it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from component.hub.hub_site import Site, site
from component.proxy.parts import RunningProxy, answering, raw_target, running, until_closed
from component.proxy.test_proxy_limits import switching, tunnelled
from himalia_hub.routes.feed import Feed
from himalia_proxy.base import ProxyError, Route
from hubs import free_port
from support import eventually


class Remembering:
    """A proxy that keeps what it is told; `away` is one that cannot be asked."""

    def __init__(self) -> None:
        self.table: dict[str, Route] = {}
        self.away = False

    async def put(self, route: Route) -> None:
        self.table[route.routespec] = route

    async def delete(self, routespec: str) -> None:
        self.table.pop(routespec, None)

    async def get(self, routespec: str) -> Route | None:
        return self.table.get(routespec)

    async def routes(self) -> dict[str, Route]:
        if self.away:
            raise ProxyError("away")
        return {
            spec: Route(spec, route.target, {**route.data, "last_activity": "2020-01-01T00:00:00.000Z"})
            for spec, route in self.table.items()
        }

    async def cut(self, **_asked: object) -> int:
        if self.away:
            raise ProxyError("away")
        return 0

    async def close(self) -> None: ...


@asynccontextmanager
async def feeding(folder: Path, proxy: Remembering, port: int = 0) -> AsyncIterator[tuple[Site, Feed]]:
    """A hub whose own proxy is that one."""
    feed = Feed(proxy)
    async with site(folder, proxy_client=feed, port=port, proxy={"check_interval_s": 0.5}) as hub:
        yield hub, feed


@pytest.fixture
async def first() -> Remembering:
    return Remembering()


async def token_of(hub: Site) -> str:
    return await hub.token(await hub.person("root", admin=True), "proxy")


@asynccontextmanager
async def follower(
    folder: Path, hub: Site, token: str, monkeypatch: pytest.MonkeyPatch, *options: str
) -> AsyncIterator[RunningProxy]:
    monkeypatch.setenv("HIMALIA_HUB_TOKEN", token)
    async with running(folder, "--follow-hub", f"{hub.url}/hub/api", *options) as proxy:
        yield proxy


async def table(proxy: RunningProxy) -> dict[str, str]:
    return {
        path: route["target"]
        for path, route in json.loads((await proxy.call("GET", "/api/routes"))[1]).items()
    }


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_proxies_have_the_table_at_once_and_each_change_before_the_hub_goes_on(
    tmp_path: Path, first: Remembering, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    async with feeding(tmp_path, first) as (hub, feed), raw_target(answering()) as target:
        await feed.put(Route("/user/ada/", target.url, {"user": "ada"}))
        token = await token_of(hub)
        async with (
            follower(tmp_path, hub, token, monkeypatch, "--workers", workers) as one,
            follower(tmp_path, hub, token, monkeypatch) as two,
        ):
            for proxy in (one, two):
                await eventually(lambda p=proxy: "proxy.listening" in p.log.read_text(), within_s=30)
                assert await table(proxy) == {"/user/ada": target.url}
            for number in range(5):
                await feed.put(Route(f"/user/{number}/", target.url, {"user": "ada"}))
                for proxy in (one, two):
                    answer = await proxy.say(b"GET /user/%d HTTP/1.0\r\n\r\n" % number)
                    assert answer.endswith(b"ok"), answer
            await feed.delete("/user/ada/")
            for proxy in (one, two):
                assert b" 404 " in await proxy.say(b"GET /user/ada HTTP/1.0\r\n\r\n")
                assert (await proxy.call("DELETE", "/api/routes/user/1"))[0] == 409
                assert "follow.lost" not in proxy.log.read_text()


async def test_what_is_used_through_a_follower_is_known_to_the_hub_and_its_tunnels_are_cut(
    tmp_path: Path, first: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with feeding(tmp_path, first) as (hub, feed), raw_target(switching) as target:
        await feed.put(Route("/ws/", target.url))
        async with follower(tmp_path, hub, await token_of(hub), monkeypatch) as proxy:
            reader, writer = await tunnelled(proxy)

            async def active() -> bool:
                return (await feed.routes())["/ws/"].data["last_activity"] > "2021"

            await eventually(active)
            assert await feed.cut(route="/ws/") == 1
            assert await until_closed(reader) == b""
            writer.close()

            reader, writer = await tunnelled(proxy)
            first.away = True
            with pytest.raises(ProxyError, match="away"):
                await feed.cut(route="/ws/")
            assert await until_closed(reader) == b""
            writer.close()


async def test_another_hub_in_its_place_is_followed_and_what_it_knows_counts(
    tmp_path: Path, first: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    async with raw_target(answering()) as target:
        first.table["/a/"] = Route("/a/", target.url)
        async with feeding(tmp_path, first, port) as (hub, _):
            following = follower(tmp_path, hub, await token_of(hub), monkeypatch)
            proxy = await following.__aenter__()
            await eventually(lambda: "follow.joined" in proxy.log.read_text())
        try:
            await eventually(lambda: "follow.lost" in proxy.log.read_text())
            assert (await proxy.say(b"GET /a HTTP/1.0\r\n\r\n")).endswith(b"ok")
            first.table = {"/b/": Route("/b/", target.url)}
            async with feeding(tmp_path, first, port):

                async def as_the_second_says() -> bool:
                    return await table(proxy) == {"/b": target.url}

                await eventually(as_the_second_says)
        finally:
            await following.__aexit__(None, None, None)


async def events(hub: Site, token: str, last: str = "", count: int = 2) -> list[tuple[str, dict]]:
    """The first events of a stream: id and data."""
    headers = {"Last-Event-ID": last} if last else {}
    found: list[tuple[str, dict]] = []
    async with (
        hub.client(token, **headers) as client,
        client.session.get("/hub/api/proxy/follow") as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        async with asyncio.timeout(30):
            while len(found) < count:
                lines = (await answer.content.readuntil(b"\n\n")).decode().split("\n")
                fields = dict(line.partition(": ")[::2] for line in lines if ": " in line)
                if "data" in fields:
                    found.append((fields.get("id", ""), json.loads(fields["data"])))
    return found


async def test_who_comes_back_is_told_what_it_missed_and_a_stranger_everything(
    tmp_path: Path, first: Remembering
) -> None:
    async with feeding(tmp_path, first) as (hub, feed):
        token = await token_of(hub)
        await feed.put(Route("/a/", "http://h:1"))
        _, (known, whole) = await events(hub, token)
        assert whole["table"]["/a"]["target"] == "http://h:1"
        await feed.put(Route("/b/", "http://h:2"))
        await first.delete("/a/")  # by another hub
        await feed.cut(login="over")
        missed = (await events(hub, token, known, 4))[1:]
        assert [event for _, event in missed] == [
            {"change": {"put": {"/b": {"target": "http://h:2"}}}, "n": 0},
            {"cut": {"login": "over"}, "n": 0},
            {"change": {"put": {"/a": None}}, "n": 0},
        ]
        assert len(await events(hub, token, missed[-1][0], 1)) == 1, "nothing was missed"
        for strange in ("nonsense", "0000-1", known.replace(known[0], "!"), f"{known}9"):
            told = [event for _, event in (await events(hub, token, strange, 3))[1:]]
            assert "table" in told[0], strange
            assert told[1:] == [{"cut": {"login": "over"}, "n": 0}], (
                "the hub it followed may have ended before it"
            )


async def test_who_may_not_see_the_table_or_reports_for_nobody_is_refused(
    tmp_path: Path, first: Remembering
) -> None:
    async with feeding(tmp_path, first) as (hub, _):
        root = await hub.person("root", admin=True)
        weak, right = await hub.token(root, "read:users"), await hub.token(root, "proxy")
        async with hub.client(weak) as client:
            assert (await client("GET", "/hub/api/proxy/follow")).status == 403
            assert (await client("POST", "/hub/api/proxy/followers/x", json={})).status == 403
        async with hub.client(right) as client:
            assert (await client("POST", "/hub/api/proxy/followers/x", json={})).status == 404
            assert (await client("POST", "/hub/api/proxy/followers/x", json={"done": [1]})).status == 400
            first.away = True
            assert (await client("GET", "/hub/api/proxy/follow")).status == 503


async def test_a_follower_that_does_not_answer_is_let_go_and_the_others_are_waited_for(
    tmp_path: Path, first: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("himalia_hub.routes.feed.PATIENCE_S", 0.2)
    async with feeding(tmp_path, first) as (_, feed):
        deaf = await feed.join("")
        await feed.put(Route("/a/", "http://h:1"))
        assert deaf.gone
        feed.leave(deaf)


async def test_without_a_token_of_the_hub_the_start_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="needs HIMALIA_HUB_TOKEN"):
        async with running(tmp_path, "--follow-hub", "http://127.0.0.1:1/hub/api"):
            pass
