"""Out means out: suspended people, and sign-ins that end, on every door at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from component.hub.hub_site import EmptyProxy, Site, site
from himalia_hub import clock
from himalia_hub.auth import cutting
from himalia_hub.keys import PROXY
from himalia_hub.secrets import hash_token
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired
from himalia_hub.services.models import Service
from himalia_hub.tokens import store as tokens
from himalia_hub.tokens.models import ApiToken
from himalia_proxy.base import ProxyError
from himalia_proxy.client import HttpProxy
from himalia_singleuser import hub as singleuser_hub
from himalia_singleuser.hub import HubClient
from himalia_singleuser.settings import HubSettings
from support import eventually


@asynccontextmanager
async def served(paths: dict[str, Any]) -> AsyncIterator[str]:
    """A small server with these handlers for any method."""
    app = web.Application()
    for path, handler in paths.items():
        app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class CuttingProxy(EmptyProxy):
    """Remembers whose tunnels it was told to cut."""

    def __init__(self) -> None:
        self.told: list[str | None] = []
        self.broken = False
        self.open = 0

    async def cut(
        self, *, login: str | None = None, route: str | None = None, tokens: Collection[str] = ()
    ) -> int:
        if self.broken:
            raise ProxyError("away")
        who = "tokens " + ",".join(sorted(tokens)) if tokens else login
        self.told.append(who if route is None else f"{who} {route}")
        return self.open


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        running.app._state[PROXY] = CuttingProxy()
        yield running


async def test_a_suspended_person_is_out_by_every_door_and_back_when_it_is_lifted(hub: Site) -> None:
    root = await hub.token(await hub.person("root", admin=True))
    ann = await hub.person("ann")
    own = await hub.token(ann)
    server = await hub.server(ann, secret="the server's own token")
    async with hub.client() as browser, hub.client(root) as admin:
        await browser.login("ann")
        session = browser.cookie("jupyterhub-session-id")

        assert (await admin("PUT", "/hub/api/users/ann/suspension")).status == 204
        assert (await admin("PUT", "/hub/api/users/ann/suspension")).status == 204

        assert hub.app[PROXY].told == [session] + 2 * [f"tokens {hash_token(own)}"]
        assert (await browser("GET", "/hub/api/user")).status == 403
        answer = await browser.login("ann")
        assert (answer.status, "suspended" in answer.text) == (403, True)
        for secret in (own, "the server's own token"):
            async with hub.client(secret) as script:
                assert (await script("GET", "/hub/api/user")).status == 403
        async with hub.db.read() as db:
            assert (await db.get_one(Server, server.id)).desired is Desired.STOPPED

        assert (await admin("DELETE", "/hub/api/users/ann/suspension")).status == 204
        assert (await browser.login("ann")).status == 302
    async with hub.client(own) as script:
        assert (await script("GET", "/hub/api/user")).status == 200


async def test_a_token_that_ends_or_loses_a_right_takes_what_it_opened_and_what_came_back_at_once_along(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Official servers ask nobody about a WebSocket that is open, and remember for 3 s who may open one."""
    monkeypatch.setattr(cutting, "AGAIN_S", 0.01)
    root, ann = await hub.token(await hub.person("root", admin=True)), await hub.person("ann")
    own, proxy = await hub.token(ann), hub.app[PROXY]
    proxy.open = 1
    people = {"users": ["ann"]}
    async with hub.client(root) as admin:
        for method, path, body in (
            ("PUT", "roles/visitors", {"scopes": ["access:servers"]}),
            ("POST", "roles/visitors/members", people),
            ("DELETE", "roles/visitors/members", people),
        ):
            assert (await admin(method, f"/hub/api/{path}", json=body)).status < 300
        await eventually(lambda: len(proxy.told) == 2, within_s=5, what="it is cut twice")
        (listed,) = (await admin("GET", "/hub/api/users/ann/tokens")).json["api_tokens"]
        assert (await admin("DELETE", f"/hub/api/users/ann/tokens/{listed['id']}")).status == 204
    await eventually(lambda: len(proxy.told) == 4, within_s=5, what="it is cut twice")
    assert proxy.told == 4 * [f"tokens {hash_token(own)}"]


async def test_who_loses_a_right_to_come_in_by_role_or_group_or_as_administrator_is_cut(hub: Site) -> None:
    root = await hub.token(await hub.person("root", admin=True))
    await hub.person("ann")
    async with hub.client() as browser, hub.client(root) as admin:
        await browser.login("ann")
        session = browser.cookie("jupyterhub-session-id")

        async def told(*calls: tuple[str, str, Any]) -> list[str | None]:
            hub.app[PROXY].told.clear()
            for method, path, body in calls:
                answer = await admin(method, f"/hub/api/{path}", json=body)
                assert answer.status < 300, answer.text
            return list(hub.app[PROXY].told)

        people: Any = {"users": ["ann"]}
        visits, reads = {"scopes": ["access:servers", "list:users"]}, {"scopes": ["list:users"]}
        given = ("PUT", "roles/visitors", visits), ("POST", "roles/visitors/members", people)
        assert await told(*given) == []
        assert await told(("DELETE", "roles/visitors/members", people)) == [session]
        assert await told(*given, ("PUT", "roles/visitors", reads)) == [session]
        assert (
            await told(("DELETE", "roles/visitors", None)) == []
        )  # nothing that it still gave lets anybody in
        grouped = ("POST", "groups/g", people), ("PUT", "roles/visitors", visits)
        assert await told(*grouped, ("POST", "roles/visitors/members", {"groups": ["g"]})) == []
        assert await told(("DELETE", "roles/visitors", None)) == [session]
        assert await told(("PATCH", "users/ann", {"admin": True})) == []
        assert await told(("PATCH", "users/ann", {"admin": False})) == [session]


async def test_a_suspended_persons_token_opens_no_path(hub: Site) -> None:
    """CVE-2026-55435: one path still took a suspended person's key."""
    from component.hub.test_route_table import SCOPED, filled

    root = await hub.token(await hub.person("root", admin=True))
    other = await hub.person("boss", admin=True)
    token = await hub.token(other)
    async with hub.client(root) as admin, hub.client(token) as client:
        await admin("PUT", "/hub/api/users/boss/suspension")
        for method, path in SCOPED:
            if path.startswith("/hub/api"):
                assert (await client(method, filled(path), json={})).status == 403, f"{method} {path}"


@pytest.mark.parametrize("what", ["PUT suspension", "DELETE suspension", "DELETE second-step"])
async def test_nobody_does_it_to_themselves_or_to_somebody_above_them(hub: Site, what: str) -> None:
    method, _, path = what.partition(" ")
    root = await hub.person("root", admin=True)
    ann = await hub.person("ann")
    limited = await hub.token(root, "admin:users")
    async with hub.client(limited) as script:
        assert (await script(method, f"/hub/api/users/root/{path}")).status == 400
    await hub.person("boss", admin=True)
    async with hub.client(limited) as script:
        assert (await script(method, f"/hub/api/users/boss/{path}")).status == 403
        assert (await script(method, f"/hub/api/users/ann/{path}")).status == 204
    async with hub.client(await hub.token(await hub.person("bob"))) as script:
        assert (await script(method, f"/hub/api/users/ann/{path}")).status == 403
    assert ann.suspended is None


async def test_signing_out_cuts_the_web_sockets_of_that_browser_only(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as browser, hub.client() as other:
        await browser.login("ann")
        await other.login("ann")
        session = browser.cookie("jupyterhub-session-id")
        await browser("GET", "/hub/logout")

    assert hub.app[PROXY].told == [session]


async def test_at_hosts_of_their_own_the_proxy_cuts_the_routes_of_what_knew_the_sign_in_and_no_others(
    tmp_path: Path,
) -> None:
    """There the proxy sees no cookie of the hub's, and official servers ask nobody about a WebSocket that is open."""
    async with site(tmp_path, subdomain_host="http://hub.test") as hub:
        proxy = hub.app._state[PROXY] = CuttingProxy()
        ann, bob, cleo = [await hub.person(name) for name in ("ann", "bob", "cleo")]
        for owner in (ann, bob, cleo):
            await hub.server(owner, secret=f"of {owner.name}'s server")
        async with hub.db.begin() as db:
            grader = Service(name="grader", url="http://127.0.0.1:9", oauth_client_id="service-grader")
            db.add(grader)
            await db.flush()
            db.add(ApiToken(service_id=grader.id, hashed="its own", created=ann.created, scopes=[]))
        hashed: dict[str, str] = {}
        async with hub.client(Host="hub.test") as browser, hub.client(Host="hub.test") as other:
            for visitor, clients in (
                (browser, ("jupyterhub-user-ann", "jupyterhub-user-bob", "service-grader")),
                (other, ("jupyterhub-user-ann",)),
            ):
                await visitor.login("ann")
                session = visitor.cookie("jupyterhub-session-id")
                async with hub.db.begin() as db:
                    for client in clients:
                        row, _ = await tokens.issue(
                            db, ann.id, now=clock.now(), scopes=[], client_id=client, session_id=session
                        )
                        hashed[client] = row.hashed
            session = browser.cookie("jupyterhub-session-id")
            await browser("GET", "/hub/logout")
            assert proxy.told == [
                session,
                f"tokens {hashed['service-grader']}",
                "None /ann.hub.test/user/ann/",
                "None /bob.hub.test/user/bob/",
                "None /grader--service.hub.test/services/grader/",
            ]

            proxy.told.clear()
            async with hub.client(await hub.token(await hub.person("root", admin=True))) as admin:
                assert (await admin("PUT", "/hub/api/users/ann/suspension")).status == 204
            assert proxy.told == [other.cookie("jupyterhub-session-id"), "None /ann.hub.test/user/ann/"]


async def test_a_proxy_that_is_away_keeps_nobody_signed_in(hub: Site) -> None:
    await hub.person("ann")
    hub.app[PROXY].broken = True
    async with hub.client() as browser:
        await browser.login("ann")
        assert (await browser("GET", "/hub/logout")).status == 302
        assert (await browser("GET", "/hub/api/user")).status == 403


@pytest.mark.parametrize(("status", "body", "cut"), [(200, {"cut": 3}, 3), (404, None, 0), (500, None, None)])
async def test_the_proxy_is_told_the_sign_in_and_may_be_the_official_one(
    status: int, body: object, cut: int | None
) -> None:
    asked: list[str] = []

    async def tunnels(request: web.Request) -> web.Response:
        asked.append(request.query["login"])
        return web.json_response(body, status=status)

    async with served({"/api/tunnels": tunnels}) as url:
        proxy = HttpProxy(url, "secret")
        try:
            if cut is None:
                with pytest.raises(ProxyError, match="500"):
                    await proxy.cut(login="s&p")
            else:
                assert await proxy.cut(login="s&p") == cut
        finally:
            await proxy.close()
    assert asked == ["s&p"]


async def test_a_known_visitor_is_not_kept_waiting_by_a_slow_hub_whose_answer_counts_when_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(singleuser_hub, "CHECK_S", 0.0)
    monkeypatch.setattr(singleuser_hub, "PATIENCE_S", 0.05)
    slow, go_on, asked = False, asyncio.Event(), 0

    async def user(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if slow:
            await go_on.wait()
        return web.json_response({"name": "bob", "scopes": ["access:servers"]}, status=403 if slow else 200)

    async with served({"/hub/api/user": user}) as url, aiohttp.ClientSession() as session:
        hub = HubClient(
            HubSettings(f"{url}/hub/api", "own", "/", "c", "ann", access_scopes=("access:servers",)), session
        )
        assert await hub.may_stay("t", session_id="s", ask=False)
        slow = True
        assert await hub.user_of("t", session_id="s") is not None
        assert await hub.may_stay("t", session_id="s", ask=True)
        assert asked == 2, "asked once for both"
        go_on.set()

        async def is_out() -> bool:
            return not await hub.may_stay("t", session_id="s", ask=False)

        await eventually(is_out, within_s=5)


async def test_a_hub_that_is_away_throws_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(singleuser_hub, "CHECK_S", 0.0)
    broken = False

    async def user(request: web.Request) -> web.Response:
        return web.json_response({"name": "bob", "scopes": []}, status=503 if broken else 200)

    async with served({"/hub/api/user": user}) as url, aiohttp.ClientSession() as session:
        hub = HubClient(HubSettings(f"{url}/hub/api", "own", "/", "c", "ann"), session)
        assert await hub.user_of("t", session_id="s") is not None
        broken = True
        assert await hub.user_of("t", session_id="s") is not None
        assert await hub.may_stay("unknown", session_id="s", ask=True)
        monkeypatch.setattr(singleuser_hub, "KEPT_S", 0.0)
        with pytest.raises(singleuser_hub.HubUnreachable):
            await hub.user_of("t", session_id="s")


async def test_a_server_asks_the_hub_anew_when_a_web_socket_opens_and_then_forgets() -> None:
    known = True

    async def user(request: web.Request) -> web.Response:
        return web.json_response({"name": "ann", "scopes": []}, status=200 if known else 403)

    async with served({"/hub/api/user": user}) as url, aiohttp.ClientSession() as session:
        hub = HubClient(HubSettings(f"{url}/hub/api", "own", "/", "jupyterhub-user-bob", "bob"), session)
        assert await hub.user_of("t", session_id="s") is not None
        known = False
        assert await hub.user_of("t", session_id="s") is not None  # within its cache time
        assert await hub.user_of("t", session_id="s", fresh=True) is None
        assert await hub.user_of("t", session_id="s") is None
