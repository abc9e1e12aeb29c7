"""Roles: from the configuration and over the API, by person, group and service; and who may give them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, identify, site
from himalia_hub import clock
from himalia_hub.rbac.models import RoleAssignment
from himalia_hub.services.sync import write_configured

KEY = "the token of the service"
SETTINGS = {
    "services": [{"name": "bot", "api_token": KEY}],
    "custom_scopes": {
        "custom:grades:write": {"description": "Change grades.", "subscopes": ["custom:grades:read"]},
        "custom:grades:read": {"description": "Read grades."},
    },
    "roles": [
        {
            "name": "reader",
            "scopes": ["read:users:name", "list:users"],
            "users": ["ann"],
            "services": ["bot"],
        },
        {"name": "grader", "scopes": ["custom:grades:write"], "groups": ["course"]},
        {
            "name": "server",
            "scopes": ["users:activity!user", "access:servers!server", "read:users:groups!user"],
        },
    ],
}


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url, **SETTINGS) as running:
        await write_configured(running.db, running.world.settings, running.world.secrets)
        await running.person("root", admin=True)
        for name in ("ann", "bob", "eve"):
            await running.person(name)
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    async with as_(hub, "root") as client:
        yield client


def as_(hub: Site, name: str, *scopes: str):
    from contextlib import asynccontextmanager

    from himalia_hub.users import store

    @asynccontextmanager
    async def signed() -> AsyncIterator[Client]:
        async with hub.db.read() as db:
            user = await store.by_name(db, name)
        assert user is not None
        async with hub.client(await hub.token(user, *scopes)) as client:
            yield client

    return signed()


async def names(client: Client) -> list[str] | int:
    """Whom the client may list, or the status of the refusal."""
    answer = await client("GET", "/hub/api/users?sort=name")
    return [user["name"] for user in answer.json] if answer.status == 200 else answer.status


async def scopes(client: Client) -> set[str]:
    return set((await client("GET", "/hub/api/user")).json["scopes"])


async def test_configured_roles_reach_people_services_and_groups_at_once(hub: Site, root: Client) -> None:
    everybody = ["ann", "bob", "eve", "root"]
    async with as_(hub, "ann") as ann, as_(hub, "bob") as bob, hub.client(KEY) as bot:
        assert (await names(ann), await names(bob), await names(bot)) == (everybody, 403, everybody)
        assert (await root("GET", "/hub/api/services/bot")).json["roles"] == ["reader"]
        assert (await ann("GET", "/hub/api/users/ann")).json["roles"] == ["reader", "user"]
        await root("POST", "/hub/api/groups/course", json={"users": ["bob"]})
        assert {"custom:grades:write", "custom:grades:read"} <= await scopes(bob)
        assert (await root("GET", "/hub/api/users/bob")).json["roles"] == ["user"], "the group's own"
        async with as_(hub, "bob", "custom:grades:read") as weak:
            assert await scopes(weak) == {"custom:grades:read"} | identify("bob")
        await root("DELETE", "/hub/api/groups/course/users", json={"users": ["bob"]})
        assert not {scope for scope in await scopes(bob) if scope.startswith("custom")}


async def test_the_servers_own_token_follows_the_role_of_that_name(hub: Site) -> None:
    async with hub.db.read() as db:
        from himalia_hub.users import store

        ann = await store.by_name(db, "ann")
    await hub.server(ann, secret="the server's own")
    async with hub.client("the server's own") as server:
        assert "read:users:groups!user=ann" in await scopes(server)


async def test_a_role_is_made_given_for_a_time_and_taken(hub: Site, root: Client) -> None:
    body = {"description": "Helps.", "scopes": ["servers!group=course", "list:users!group=course"]}
    assert (await root("PUT", "/hub/api/roles/helper", json=body)).status == 201
    assert (await root("PUT", "/hub/api/roles/helper", json=body)).status == 200
    await root("POST", "/hub/api/groups/course", json={"users": ["ann"]})
    given = await root("POST", "/hub/api/roles/helper/members", json={"users": ["bob"], "expires_in": 3600})
    assert given.status == 200
    assert [(one["kind"], one["name"]) for one in given.json["members"]] == [("user", "bob")]
    async with as_(hub, "bob") as bob:
        assert await names(bob) == ["ann"]
        assert (await bob("GET", "/hub/api/users/ann/server")).status == 200
        assert (await bob("GET", "/hub/api/users/eve")).status == 404
        assert (await root("GET", "/hub/api/users/bob")).json["roles"] == ["helper", "user"]
        async with hub.db.begin() as db:
            await db.execute(sa.update(RoleAssignment).values(expires_at=clock.now() - timedelta(seconds=1)))
        assert await names(bob) == 403
        await root("POST", "/hub/api/roles/helper/members", json={"groups": ["course"], "services": ["bot"]})
        async with as_(hub, "ann") as ann, hub.client(KEY) as bot:
            assert "servers!group=course" in await scopes(ann) & await scopes(bot)
            gone = await root("DELETE", "/hub/api/roles/helper/members", json={"groups": ["course"]})
            assert [one["name"] for one in gone.json["members"]] == ["bot"]
            assert (await root("DELETE", "/hub/api/roles/helper")).status == 204
            assert "servers!group=course" not in await scopes(ann) | await scopes(bot)
    assert (await root("GET", "/hub/api/roles/helper")).status == 404
    assert {role["name"] for role in (await root("GET", "/hub/api/roles")).json} >= {
        "user",
        "admin",
        "reader",
    }


async def test_a_token_may_name_a_role_and_gets_no_more_than_its_owner_has(hub: Site, root: Client) -> None:
    await root("PUT", "/hub/api/roles/looker", json={"scopes": ["read:servers!user", "read:users!user"]})
    async with as_(hub, "ann") as ann:
        made = await ann("POST", "/hub/api/users/ann/tokens", json={"roles": ["looker"]})
        assert "read:servers!user=ann" in made.json["scopes"]
        assert (await ann("POST", "/hub/api/users/ann/tokens", json={"roles": ["admin"]})).status == 400
        assert (await ann("POST", "/hub/api/users/ann/tokens", json={"roles": ["none"]})).status == 400


async def test_nobody_gives_what_they_do_not_hold(hub: Site, root: Client) -> None:
    await root("PUT", "/hub/api/roles/strong", json={"scopes": ["admin:users"]})
    await root("POST", "/hub/api/groups/strong")
    await root("POST", "/hub/api/roles/strong/members", json={"groups": ["strong"]})
    async with as_(hub, "root", "admin:roles", "admin:groups", "list:users") as some:
        me = {"users": ["eve"]}
        for method, path, body in [
            ("PUT", "roles/mine", {"scopes": ["admin:users"]}),
            ("POST", "roles/strong/members", me),
            ("POST", "groups/strong/users", me),
            ("POST", "groups/strong/managers", me),
        ]:
            assert (await some(method, f"/hub/api/{path}", json=body)).status == 403, path
        assert (await some("PUT", "/hub/api/roles/mine", json={"scopes": ["read:roles"]})).status == 201
        assert (await some("POST", "/hub/api/roles/mine/members", json=me)).status == 200


async def test_what_cannot_be_a_role_is_said(root: Client) -> None:
    for name, body, status in [
        ("mine", {}, 400), ("mine", {"scopes": ["nonsense"]}, 400), ("mine", {"scopes": ["inherit"]}, 400),
        ("X", {"scopes": []}, 400), ("user", {"scopes": []}, 409), ("reader", {"scopes": []}, 409),
    ]:  # fmt: skip
        assert (await root("PUT", f"/hub/api/roles/{name}", json=body)).status == status, (name, body)
    assert (await root("DELETE", "/hub/api/roles/reader")).status == 409
    await root("PUT", "/hub/api/roles/mine", json={"scopes": []})
    unknown = await root("POST", "/hub/api/roles/mine/members", json={"users": ["nobody"]})
    assert (unknown.status, "nobody" in unknown.text) == (400, True)


async def test_a_manager_chooses_who_is_in_the_group_and_nothing_more(hub: Site, root: Client) -> None:
    await root("POST", "/hub/api/groups/lab", json={"users": ["ann"]})
    await root("POST", "/hub/api/groups/other", json={"users": ["eve"]})
    assert (await root("POST", "/hub/api/groups/lab/managers", json={"users": ["bob"]})).json == ["bob"]
    async with as_(hub, "bob") as bob:
        assert await names(bob) == ["ann", "bob"]
        added = await bob("POST", "/hub/api/groups/lab/users", json={"users": ["eve"]})
        assert (added.status, added.json["users"]) == (200, ["ann", "bob", "eve"])
        assert (await bob("POST", "/hub/api/groups/other/users", json={"users": ["bob"]})).status == 404
        assert (await bob("POST", "/hub/api/groups/lab/managers", json={"users": ["eve"]})).status == 403
        assert (await bob("DELETE", "/hub/api/groups/lab")).status == 403
        assert (await bob("POST", "/hub/api/users/ann/server")).status in (403, 404)
        assert (await root("DELETE", "/hub/api/groups/lab/managers", json={"users": ["bob"]})).json == []
        assert await names(bob) == 403


async def test_a_role_for_a_time_ends_by_itself_also_where_nothing_is_written(
    hub: Site, root: Client, monkeypatch
) -> None:
    await root("PUT", "/hub/api/roles/lister", json={"scopes": ["list:users"]})
    await root("POST", "/hub/api/roles/lister/members", json={"users": ["eve"], "expires_in": 60})
    async with as_(hub, "eve") as eve:
        assert await names(eve) == ["ann", "bob", "eve", "root"]
        then = clock.now() + timedelta(seconds=61)
        monkeypatch.setattr(clock, "now", lambda: then)
        assert await names(eve) == 403
