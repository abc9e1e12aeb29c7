from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import PASSWORD, Site, identify, site
from himalia_hub import clock
from himalia_hub.tokens import store
from himalia_hub.tokens.models import ApiToken


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


async def test_a_token_is_shown_once_and_works_until_it_is_deleted(hub: Site) -> None:
    ann = await hub.person("ann")
    async with hub.client(await hub.token(ann)) as client:
        made = await client("POST", "/hub/api/users/ann/tokens", json={"note": "mine", "expires_in": 60})
        assert made.status == 201
        path = f"/hub/api/users/ann/tokens/{made.json['id']}"
        shown = await client("GET", path)
        listed = (await client("GET", "/hub/api/users/ann/tokens")).json["api_tokens"]
        async with hub.client(made.json["token"]) as other:
            assert (await other("GET", "/hub/api/user")).json["token_id"] == made.json["id"]
            assert (await client("DELETE", path)).status == 204
            assert (await other("GET", "/hub/api/user")).status == 403
        assert (await client("GET", path)).status == 404

    assert made.json["note"] == "mine"
    assert "token" not in shown.json
    assert made.json["token"] not in str(listed)
    assert [row["id"] for row in listed][-1] == made.json["id"]
    assert shown.json.keys() == {
        "user", "id", "kind", "roles", "scopes", "created", "last_activity", "expires_at", "note", "session_id", "oauth_client",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"expires_in": 0}, "expires_in"), ({"expires_in": "60"}, "expires_in"), ({"expires_in": True}, "expires_in"), ({"expires_in": 1.5}, "expires_in"),
        ({"scopes": "self"}, "scopes"), ({"scopes": [1]}, "scopes.0"), ({"scopes": ["nonsense"]}, "nonsense"), ({"scopes": ["users!planet=x"]}, "filter"),
        ({"scopes": ["admin:users"]}, "admin:users"), ({"roles": ["nobody"]}, "nobody"), ({"roles": ["admin"]}, "does not hold"),
        ({"roles": ["user"], "scopes": ["self"]}, "not both"), ({"note": 5}, "note"), ({"unknown": 1}, "unknown"), ([], "JSON object"), ("x", "JSON object"),
    ],
)  # fmt: skip
async def test_a_body_that_does_not_fit_is_refused_by_field(hub: Site, body, word: str) -> None:
    ann = await hub.person("ann")
    async with hub.client(await hub.token(ann)) as client:
        answer = await client("POST", "/hub/api/users/ann/tokens", json=body)

    assert answer.status == 400
    assert word in answer.json["message"]


async def test_a_token_gets_no_right_that_its_maker_lacks(hub: Site) -> None:
    ann = await hub.person("ann")
    async with hub.client(await hub.token(ann, "tokens!user=ann", "read:users!user=ann")) as narrow:
        path = "/hub/api/users/ann/tokens"
        unnamed = await narrow("POST", path, json={})
        assert (await narrow("POST", path, json={"roles": ["user"]})).status == 403
        assert (await narrow("POST", path, json={"scopes": ["servers!user=ann"]})).status == 403
        made = await narrow("POST", path, json={"scopes": ["read:users:name!user"]})
        nothing = [await narrow("POST", path, json={kind: []}) for kind in ("scopes", "roles")]

    assert (made.status, unnamed.status) == (201, 201)
    assert set(unnamed.json["scopes"]) == {
        f"{one}!user=ann"
        for one in (
            "tokens", "read:tokens", "read:users", "read:users:name", "read:users:groups", "read:users:activity",
        )
    }  # fmt: skip
    assert set(made.json["scopes"]) == identify("ann")
    assert [(answer.status, set(answer.json["scopes"])) for answer in nothing] == [(201, identify("ann"))] * 2


async def test_an_administrator_makes_tokens_for_others_that_are_theirs(hub: Site) -> None:
    root, ann = await hub.person("root", admin=True), await hub.person("ann")
    async with hub.client(await hub.token(root)) as client:
        made = await client("POST", "/hub/api/users/ann/tokens", json={})
        assert (
            await client("POST", "/hub/api/users/ann/tokens", json={"scopes": ["shutdown"]})
        ).status == 400
    async with hub.client(made.json["token"]) as other:
        model = (await other("GET", "/hub/api/user")).json
        assert model["name"] == "ann"
        assert all(scope.endswith("!user=ann") for scope in model["scopes"])
        assert (await other("GET", "/hub/api/users/root")).status == 404
    assert made.json["note"] == "Requested via api by user root"
    async with hub.client(await hub.token(root, "tokens")) as narrow:
        both = await narrow("POST", "/hub/api/users/ann/tokens", json={})
        rights = {"tokens!user=ann", "read:tokens!user=ann"} | identify("ann")
        assert (both.status, set(both.json["scopes"])) == (201, rights)
    assert ann.id


async def test_tokens_of_others_and_of_nobody_look_the_same(hub: Site) -> None:
    ann, bob = await hub.person("ann"), await hub.person("bob")
    token = await hub.token(bob)
    async with hub.client(await hub.token(ann)) as client, hub.client(token) as bobs:
        mine = (await bobs("GET", "/hub/api/users/bob/tokens")).json["api_tokens"][0]["id"]
        for name in ("bob", "nobody"):
            path = f"/hub/api/users/{name}/tokens"
            assert (await client("POST", path, json={})).status == 403
            answers = [await client("GET", path), await client("GET", f"{path}/{mine}"), await client("DELETE", f"{path}/{mine}")]  # fmt: skip
            assert {(answer.status, answer.json["message"]) for answer in answers} == {
                (404, "No access to resources or resources not found")
            }
        for wrong in (mine, "1", "x", "a", "a0", "a999999999999999", "a%31x", "a-1"):
            assert (await client("GET", f"/hub/api/users/ann/tokens/{wrong}")).status == 404


async def test_expired_tokens_are_nobodys_and_swept_by_the_list(hub: Site) -> None:
    ann = await hub.person("ann")
    old = await hub.token(ann, lasts=timedelta(seconds=-1))
    async with hub.client(old) as late:
        assert (await late("GET", "/hub/api/user")).status == 403
    async with hub.client(await hub.token(ann)) as client:
        assert len((await client("GET", "/hub/api/users/ann/tokens")).json["api_tokens"]) == 1
    async with hub.db.read() as db:
        assert await db.scalar(sa.select(sa.func.count()).select_from(ApiToken)) == 1


async def test_deleting_what_a_server_was_given_deletes_all_of_it(hub: Site) -> None:
    ann = await hub.person("ann")
    async with hub.db.begin() as db:
        for _ in range(3):
            row, _ = await store.issue(
                db, ann.id, now=clock.now(), scopes=[], client_id="jupyterhub-user-ann"
            )
    async with hub.client(await hub.token(ann)) as client:
        assert (await client("DELETE", f"/hub/api/users/ann/tokens/a{row.id}")).status == 204
        assert len((await client("GET", "/hub/api/users/ann/tokens")).json["api_tokens"]) == 1


async def test_a_password_makes_a_token_of_ones_own_only(hub: Site) -> None:
    await hub.person("ann")
    await hub.person("bob")
    auth = {"auth": {"username": "ann", "password": PASSWORD}}
    async with hub.client() as client:
        assert (await client("POST", "/hub/api/users/bob/tokens", json=auth)).status == 403
        assert (await client("POST", "/hub/api/users/ann/tokens", json={})).status == 403
        wrong = await client(
            "POST", "/hub/api/users/ann/tokens", json={"auth": auth["auth"] | {"password": "no"}}
        )
        made = await client("POST", "/hub/api/users/ann/tokens", json=auth)
    assert (wrong.status, made.status) == (403, 201)


async def test_a_servers_own_token_reports_activity_and_nothing_else(hub: Site) -> None:
    ann = await hub.person("ann")
    await hub.server(ann, "lab", secret="server-secret-1")
    async with hub.client("server-secret-1") as server:
        model = (await server("GET", "/hub/api/user")).json
        assert set(model["scopes"]) - identify("ann") == {
            "access:servers!server=ann/lab", "read:users:activity!user=ann", "users:activity!user=ann",
        }  # fmt: skip
        assert (
            await server(
                "POST", "/hub/api/users/ann/activity", json={"last_activity": "2026-01-01T00:00:00Z"}
            )
        ).status == 200
        assert (await server("POST", "/hub/api/users/ann/server", json={})).status == 403
        assert (await server("POST", "/hub/api/users/ann/tokens", json={})).status == 403
