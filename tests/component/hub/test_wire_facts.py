"""Facts of JupyterHub's API that clients rely on and no other test names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from component.hub.hub_site import Client, Site, site
from component.hub.test_oauth_flow import ServerApp, fields_of
from component.hub.test_suspension import served
from himalia_hub import clock
from himalia_hub.auth import state
from himalia_hub.auth.models import ExternalIdentity
from himalia_hub.auth.vault import VAULT
from himalia_hub.keys import PROXY
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.services.sync import write_configured
from himalia_proxy.client import HttpProxy

SETTINGS: dict[str, Any] = {
    "servers": {"allow_named": True, "slow_start_s": 0, "slow_stop_s": 0},
    "auth": {"token_max_age_s": 600, "require_pkce": True},
    "services": [{"name": "bot", "api_token": "a token of some length", "admin": True}],
    "roles": [{"name": "tutors", "scopes": ["read:users"], "groups": ["g"], "services": ["bot"]}],
}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, **SETTINGS) as running:
        await write_configured(running.db, running.world.settings, running.world.secrets)
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as client:
        yield client


async def test_services_and_groups_show_the_roles_of_configuration_and_rows(hub: Site, root: Client) -> None:
    await root("POST", "/hub/api/groups/g", json={})
    await root("PUT", "/hub/api/roles/watchers", json={"scopes": ["list:users"]})
    given = await root("POST", "/hub/api/roles/watchers/members", json={"groups": ["g"], "services": ["bot"]})
    assert given.status == 200, given.text

    for path, roles in (
        ("services", ["admin", "tutors", "watchers"]),
        ("groups", ["tutors", "watchers"]),
    ):
        listed = (await root("GET", f"/hub/api/{path}")).json
        one = listed["bot"] if path == "services" else listed[0]
        assert one["roles"] == roles
        assert (await root("GET", f"/hub/api/{path}/{one['name']}")).json == one


async def test_whose_a_token_is_says_the_old_address_to_who_shows_a_token_and_no_log(
    hub: Site, root: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = await hub.person("ann")
    theirs = await hub.token(ann, "read:servers!user")
    path = f"/hub/api/authorizations/token/{theirs}"
    async with hub.client() as nobody, hub.client("a token of some length") as bot, hub.client(theirs) as own:
        assert [(await client("GET", path)).status for client in (nobody, own)] == [403, 200]
        assert (await bot("GET", "/hub/api/authorizations/token/a%20token%20of%20some%20length")).json[
            "name"
        ] == "bot"
        assert (await bot("GET", "/hub/api/authorizations/token/nope")).status == 404
    model = (await root("GET", path)).json
    assert (model["name"], model["kind"], model["roles"]) == ("ann", "user", ["user"])
    await nobody_signs_in_with_a_cookie(hub, path)
    assert theirs not in capsys.readouterr().out


async def nobody_signs_in_with_a_cookie(hub: Site, path: str) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        assert (await browser("GET", path)).status == 403


async def test_what_the_spawner_keeps_is_for_who_may_read_it(hub: Site, root: Client) -> None:
    ann = await hub.person("ann")
    await hub.server(ann, "x")
    await hub.server(ann, "y", desired=Desired.STOPPED, phase=Phase.STOPPED)
    async with hub.client(await hub.token(ann)) as client:
        assert "state" not in (await client("GET", "/hub/api/users/ann/servers/x")).json
        assert "state" not in (await client("GET", "/hub/api/user")).json["servers"]["x"]
    assert (await root("GET", "/hub/api/users/ann/servers/x")).json["state"].keys() == {
        "backend_name", "incarnation", "node",
    }  # fmt: skip
    servers = (await root("GET", "/hub/api/users/ann?include_stopped_servers=1")).json["servers"]
    assert servers["x"]["state"]
    assert servers["y"]["state"] == {}


async def test_the_default_server_is_made_by_nobody_and_keeps_its_name(hub: Site, root: Client) -> None:
    ann = await hub.person("ann")
    await hub.server(ann, "", desired=Desired.STOPPED, phase=Phase.STOPPED)
    for path in ("server", "servers/"):
        assert (await root("PUT", f"/hub/api/users/ann/{path}", json={})).status == 409
        changed = await root("PATCH", f"/hub/api/users/ann/{path}", json={"display_name": "mine"})
        assert (changed.status, changed.json["display_name"]) == (200, "mine")
        assert (await root("PATCH", f"/hub/api/users/ann/{path}", json={"nonsense": 1})).status == 400


async def test_auth_state_is_set_where_there_is_an_identity_to_keep_it_with(hub: Site, root: Client) -> None:
    ann = await hub.person("ann")
    for key, value in (("auth_state", {"a": 1}), ("groups", ["g"]), ("roles", ["r"])):
        refused = await root("PATCH", "/hub/api/users/ann", json={key: value})
        assert (refused.status, bool(refused.json["message"])) == (400, True)
    async with hub.db.begin() as db:
        db.add(ExternalIdentity(realm="r", subject="s", user_id=ann.id, created=clock.now()))

    changed = await root("PATCH", "/hub/api/users/ann", json={"auth_state": {"a": 1}})

    assert (changed.status, changed.json["auth_state"]) == (200, {"a": 1})
    async with hub.db.read() as db:
        assert await state.of_user(db, hub.app[VAULT], ann.id) == {"a": 1}
    assert (await root("PATCH", "/hub/api/users/ann", json={})).json["auth_state"] == {"a": 1}
    assert (await root("PATCH", "/hub/api/users/ann", json={"auth_state": None})).json["auth_state"] is None


async def test_no_token_is_good_for_longer_than_the_most_and_each_has_an_end(hub: Site, root: Client) -> None:
    too_long = await root("POST", "/hub/api/users/root/tokens", json={"expires_in": 601})
    assert (too_long.status, "600" in too_long.json["message"]) == (400, True)
    for body in ({"expires_in": 600}, {}):
        made = (await root("POST", "/hub/api/users/root/tokens", json=body)).json
        assert made["expires_at"] is not None


async def test_where_pkce_is_required_nobody_is_signed_in_without_it(hub: Site) -> None:
    await hub.server(await hub.person("ann"), secret="the server's own token")
    app = ServerApp(hub, "ann", secret="the server's own token")
    async with hub.client() as browser:
        await browser.login("ann")
        assert "code" in fields_of(await app.authorize(browser))
        refused = fields_of(await app.authorize(browser, code_challenge=None, code_challenge_method=None))
        assert refused["error"] == "invalid_request"
        assert "code" not in refused


# ------------------------------------------------------------------ another proxy


async def test_the_hub_can_be_sent_to_another_proxy_and_fills_its_table(hub: Site, root: Client) -> None:
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}

    def proxy_with(table: dict[str, Any], token: str) -> Any:
        async def routes(request: web.Request) -> web.Response:
            if request.headers["Authorization"] != f"token {token}":
                return web.Response(status=403)
            if request.method == "POST":
                table[request.path.removeprefix("/api/routes") or "/"] = await request.json()
                return web.Response(status=201)
            return web.json_response(table)

        return {"/api/routes": routes, "/api/routes/{path:.*}": routes}

    async with served(proxy_with(first, "one")) as here, served(proxy_with(second, "two")) as there:
        hub.world.proxy = hub.app._state[PROXY] = proxy = HttpProxy(here, "one")
        try:
            assert (await root("POST", "/hub/api/proxy")).status == 200
            for body in (
                None,
                {"api_url": 1},
                {"api_url": "nonsense"},
                {"auth_token": ""},
                {"x": 1},
                [1],
            ):
                assert (await root("PATCH", "/hub/api/proxy", json=body)).status == 400, body
            for wrong in ({"api_url": there}, {"auth_token": "two"}, {"api_url": "http://127.0.0.1:1"}):
                assert (await root("PATCH", "/hub/api/proxy", json=wrong)).status == 400, wrong
            assert (await root("PATCH", "/hub/api/proxy", json={})).status == 200, "as POST"
            assert (await root("GET", "/hub/api/proxy")).status == 200, "nothing has changed"
            assert second == {}

            moved = await root("PATCH", "/hub/api/proxy", json={"api_url": there, "auth_token": "two"})

            assert moved.status == 200, moved.text
            assert list(second) == list(first) == ["/"]
            assert "two" not in str((await root("GET", "/hub/api/audit")).json)
        finally:
            await proxy.close()
