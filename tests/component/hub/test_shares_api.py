"""Shares and share codes over the API: JupyterHub's answers, and rows that never point at the next holder of a name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from component.hub.test_suspension import CuttingProxy
from himalia_hub import clock
from himalia_hub.keys import PROXY
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.shares import store
from himalia_hub.shares.models import Share, ShareCode
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User

SHARERS = {"name": "user", "scopes": ["self", "shares!user", "list:users", "list:groups"]}
SETTINGS: dict[str, Any] = {
    "servers": {"allow_named": True, "slow_start_s": 0, "slow_stop_s": 0},
    "roles": [SHARERS],
    "custom_scopes": {"custom:look:at": {"description": "look"}},
}
VISIT = "access:servers!server=ann/x"


@dataclass
class World:
    """ann, who owns the server x, and bob and eve as clients; what is asked of the API is below it."""

    hub: Site
    ann: Client
    bob: Client
    eve: Client
    root: Client

    async def scopes(self, who: Client) -> list[str]:
        return [scope for scope in (await who("GET", "/hub/api/user")).json["scopes"] if "ann/" in scope]


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(site(tmp_path, database_url, **SETTINGS))
        hub.app._state[PROXY] = CuttingProxy()
        people = {
            name: await hub.person(name, admin=name == "root") for name in ("ann", "bob", "eve", "root")
        }
        await hub.server(people["ann"], "x", desired=Desired.STOPPED, phase=Phase.STOPPED)
        clients = {
            name: await stack.enter_async_context(hub.client(await hub.token(user)))
            for name, user in people.items()
        }
        yield World(hub, **clients)


async def test_a_share_lets_in_to_that_server_and_its_end_lets_out(world: World) -> None:
    ann, bob = world.ann, world.bob
    assert await world.scopes(bob) == []

    given = await ann("POST", "/hub/api/shares/ann/x", json={"user": "bob"})

    assert given.status == 200
    assert given.json.keys() == {"server", "scopes", "user", "group", "kind", "created_at", "expires_at"}
    assert given.json["server"] == {
        "user": {"name": "ann"}, "name": "x", "url": "/user/ann/x/", "full_url": None, "ready": False,
    }  # fmt: skip
    assert (given.json["scopes"], given.json["kind"]) == ([VISIT], "user")
    assert (given.json["user"], given.json["group"]) == ({"name": "bob"}, None)
    assert await world.scopes(bob) == [VISIT]
    assert await world.scopes(world.eve) == []

    assert (await ann("PATCH", "/hub/api/shares/ann/x", json={"user": "bob"})).json == {}
    assert await world.scopes(bob) == []


async def test_a_second_share_adds_and_a_revoke_takes_what_it_names(world: World) -> None:
    path = "/hub/api/shares/ann/x"
    await world.ann("POST", path, json={"user": "bob"})
    more = await world.ann("POST", path, json={"user": "bob", "scopes": ["servers!server=ann/x"]})
    assert more.json["scopes"] == [VISIT, "servers!server=ann/x"]
    assert (await world.bob("GET", "/hub/api/users/ann/servers/x")).status == 200

    left = await world.ann("PATCH", path, json={"user": "bob", "scopes": [VISIT]})

    assert left.json["scopes"] == ["servers!server=ann/x"]
    for nobody in ({"user": "nobody"}, {"group": "nothing"}, {"user": "eve"}):
        assert (await world.ann("PATCH", path, json=nobody)).json == {}
    assert (await world.ann("DELETE", path)).status == 204
    assert (await world.ann("GET", path)).json["items"] == []


async def test_a_share_with_a_group_is_for_who_is_in_it(world: World) -> None:
    await world.root("POST", "/hub/api/groups/g", json={"users": ["bob"]})

    given = await world.ann("POST", "/hub/api/shares/ann/x", json={"group": "g"})

    assert (given.json["kind"], given.json["group"], given.json["user"]) == ("group", {"name": "g"}, None)
    assert await world.scopes(world.bob) == [VISIT]
    assert len((await world.bob("GET", "/hub/api/users/bob/shared")).json["items"]) == 1
    assert len((await world.root("GET", "/hub/api/groups/g/shared")).json["items"]) == 1
    assert (await world.root("GET", "/hub/api/groups/g/shared/ann/x")).status == 200
    # One person cannot leave what is the group's.
    assert (await world.bob("DELETE", "/hub/api/users/bob/shared/ann/x")).status == 404
    await world.root("DELETE", "/hub/api/groups/g/users", json={"users": ["bob"]})
    assert await world.scopes(world.bob) == []
    await world.root("POST", "/hub/api/groups/g/users", json={"users": ["bob"]})
    assert (await world.root("DELETE", "/hub/api/groups/g/shared/ann/x")).status == 204
    assert await world.scopes(world.bob) == []


async def test_who_has_a_share_sees_it_and_may_leave(world: World) -> None:
    await world.ann("POST", "/hub/api/shares/ann/x", json={"user": "bob"})

    listed = (await world.bob("GET", "/hub/api/users/bob/shared")).json
    assert [item["server"]["name"] for item in listed["items"]] == ["x"]
    assert listed["_pagination"] == {"offset": 0, "limit": 200, "total": 1, "next": None}
    assert (await world.bob("GET", "/hub/api/users/bob/shared/ann/x")).json == listed["items"][0]
    assert (await world.eve("GET", "/hub/api/users/bob/shared")).status == 404
    assert (await world.bob("GET", "/hub/api/users/bob/shared/ann/")).status == 404

    assert (await world.bob("DELETE", "/hub/api/users/bob/shared/ann/x")).status == 204
    assert (await world.bob("DELETE", "/hub/api/users/bob/shared/ann/x")).status == 404
    assert await world.scopes(world.bob) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"user": "bob", "group": "g"}, 400),
        ({"user": "bob", "more": 1}, 400),
        ({"user": 1}, 400),
        ({"user": "bob", "scopes": "access:servers"}, 400),
        ({"user": "bob", "scopes": ["nonsense"]}, 400),
        ({"user": "bob", "scopes": ["access:servers!server=ann/y"]}, 400),
        ({"user": "bob", "scopes": ["access:servers!user=ann"]}, 400),
        ({"user": "bob", "scopes": ["tokens"]}, 400),
        ({"user": "bob", "scopes": ["users"]}, 400),
        ({"user": "nobody"}, 400),
        ({"user": "ann"}, 400),
        ({"group": "nothing"}, 400),
        ({"user": "bob", "expires_in": 59}, 400),
        ({"user": "bob", "scopes": ["admin:servers"]}, 403),
        ({"user": "bob", "scopes": ["custom:look:at"]}, 403),
    ],
)
async def test_what_cannot_be_shared_is_said(world: World, body: dict[str, Any], status: int) -> None:
    answer = await world.ann("POST", "/hub/api/shares/ann/x", json=body)

    assert (answer.status, bool(answer.json["message"])) == (status, True)
    assert await world.hub.count(Share) == 0


async def test_who_may_not_read_a_name_may_not_share_with_it(tmp_path: Path) -> None:
    roles = [{"name": "user", "scopes": ["self", "shares!user"]}]
    async with site(tmp_path, **(SETTINGS | {"roles": roles})) as hub:
        ann = await hub.person("ann")
        await hub.person("bob")
        await hub.server(ann, "x")
        async with hub.client(await hub.token(ann)) as client:
            for body in ({"user": "bob"}, {"user": "nobody"}, {"group": "g"}):
                assert (await client("POST", "/hub/api/shares/ann/x", json=body)).status == 403


async def test_without_the_right_to_share_nobody_shares(tmp_path: Path) -> None:
    async with site(tmp_path, **(SETTINGS | {"roles": []})) as hub:
        ann = await hub.person("ann")
        await hub.server(ann, "x")
        async with hub.client(await hub.token(ann)) as client:
            assert (await client("POST", "/hub/api/shares/ann/x", json={"user": "ann"})).status == 403
            assert (await client("POST", "/hub/api/share-codes/ann/x", json={})).status == 403
            assert (await client("GET", "/hub/api/shares/ann")).status == 200


async def test_paths_without_a_server_are_for_reading_and_the_slash_is_the_default_server(
    world: World,
) -> None:
    for kind in ("shares", "share-codes"):
        for method in ("POST", "PATCH", "DELETE"):
            assert (await world.ann(method, f"/hub/api/{kind}/ann", json={})).status == 405
        assert (await world.ann("GET", f"/hub/api/{kind}/ann/")).json["items"] == []
        assert (await world.ann("GET", f"/hub/api/{kind}/bob")).status == 404
        assert (await world.root("GET", f"/hub/api/{kind}/nobody")).status == 404
    given = await world.ann("POST", "/hub/api/shares/ann/", json={"user": "bob"})

    assert given.json["scopes"] == ["access:servers!server=ann/"], "also before it was ever started"
    assert given.json["server"] | {"url": "/user/ann/", "name": "", "ready": False} == given.json["server"]


async def test_a_share_follows_those_it_is_for_and_never_the_name(world: World) -> None:
    """GHSA-mj6q-mp44-53v8: a share stayed with a name that somebody else had got."""
    await world.root("POST", "/hub/api/groups/g", json={"users": ["eve"]})
    await world.ann("POST", "/hub/api/shares/ann/x", json={"user": "bob"})
    await world.ann("POST", "/hub/api/shares/ann/x", json={"group": "g"})

    # The server is renamed, and another gets its name.
    assert (await world.ann("PATCH", "/hub/api/users/ann/servers/x", json={"name": "y"})).status == 200
    assert (await world.ann("PUT", "/hub/api/users/ann/servers/x", json={})).status == 201
    assert await world.scopes(world.bob) == ["access:servers!server=ann/y"]
    # Its owner is renamed, and somebody else gets that name and such a server.
    assert (await world.root("PATCH", "/hub/api/users/ann", json={"name": "anna"})).status == 200
    await world.hub.server(await world.hub.person("ann"), "y")
    assert await world.scopes(world.bob) == []
    # Who has it is renamed, and somebody else gets that name.
    await world.root("PATCH", "/hub/api/users/bob", json={"name": "robert"})
    other = await world.hub.person("bob")
    async with world.hub.client(await world.hub.token(other)) as client:
        assert (await client("GET", "/hub/api/users/bob/shared")).json["items"] == []
    listed = (await world.root("GET", "/hub/api/shares/anna/y")).json["items"]
    assert [item["user"] for item in listed] == [{"name": "robert"}, None]
    # Person, group and at last the server are deleted: nothing stays.
    await world.root("DELETE", "/hub/api/groups/g")
    await world.root("POST", "/hub/api/groups/g", json={"users": ["eve"]})
    assert await world.hub.count(Share) == 1
    await world.root("POST", "/hub/api/share-codes/anna/y", json={})
    async with world.hub.db.begin() as db:
        await db.execute(
            sa.delete(Server).where(Server.name == "y", Server.user_id == (await named(world, "anna")).id)
        )
    assert (await world.hub.count(Share), await world.hub.count(ShareCode)) == (0, 0)


async def test_a_share_for_a_time_ends_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    given = await world.ann("POST", "/hub/api/shares/ann/x", json={"user": "bob", "expires_in": 60})
    assert given.json["expires_at"] > given.json["created_at"]
    assert await world.scopes(world.bob) == [VISIT]
    later = clock.now() + timedelta(seconds=61)

    monkeypatch.setattr(clock, "now", lambda: later)

    assert await world.scopes(world.bob) == []
    assert (await world.ann("GET", "/hub/api/shares/ann/x")).json["items"] == []
    assert (await world.ann("POST", "/hub/api/shares/ann/x", json={"user": "bob"})).status == 200
    async with world.hub.db.begin() as db:
        await store.purge(db, now=later)
    assert await world.hub.count(Share) == 1


async def test_shares_come_by_page_and_only_of_servers_one_may_read_of(world: World) -> None:
    for name in ("bob", "eve", "root"):
        await world.ann("POST", "/hub/api/shares/ann/x", json={"user": name})

    page = (await world.ann("GET", "/hub/api/shares/ann?limit=2")).json

    assert [item["user"]["name"] for item in page["items"]] == ["bob", "eve"]
    assert (page["_pagination"]["total"], page["_pagination"]["next"]["offset"]) == (3, 2)
    narrow = await world.hub.token(await named(world, "ann"), "read:shares!server=ann/x")
    async with world.hub.client(narrow) as client:
        assert (await client("GET", "/hub/api/shares/ann/x")).status == 200
        assert (await client("GET", "/hub/api/shares/ann")).status == 404


# ------------------------------------------------------------------ codes


async def test_a_code_is_shown_once_listed_and_deleted(world: World) -> None:
    path = "/hub/api/share-codes/ann/x"
    made = await world.ann("POST", path, json={"expires_in": 60})
    assert made.status == 200
    code = made.json["code"]
    assert made.json["accept_url"] == f"/hub/accept-share?code={code}"
    assert (made.json["full_accept_url"], made.json["scopes"]) == (None, [VISIT])
    assert (made.json["exchange_count"], made.json["last_exchanged_at"]) == (0, None)
    other = (await world.ann("POST", path, json={})).json

    listed = (await world.ann("GET", "/hub/api/share-codes/ann")).json["items"]

    assert [item["id"] for item in listed] == [made.json["id"], other["id"]]
    assert not any("code" in item for item in listed)
    for query in ("?code=nonsense", "?id=sc_99999", "?id=nonsense", "?id=sc_1x"):
        assert (await world.ann("DELETE", path + query)).status == 404
    assert (await world.ann("DELETE", f"{path}?code={code}")).status == 204
    assert (await world.ann("DELETE", f"{path}?id={other['id']}")).status == 204
    await world.ann("POST", path, json={})
    assert (await world.ann("DELETE", path)).status == 204
    assert (await world.ann("DELETE", path)).status == 204
    assert (await world.ann("GET", path)).json["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"expires_in": 59},
        {"expires_in": 31_536_001},
        {"expires_in": "60"},
        {"scopes": ["nonsense"]},
        {"user": "bob"},
    ],
)
async def test_a_code_that_cannot_be_is_refused(world: World, body: dict[str, Any]) -> None:
    assert (await world.ann("POST", "/hub/api/share-codes/ann/x", json=body)).status == 400
    assert await world.hub.count(ShareCode) == 0


async def test_two_who_share_at_once_with_one_person_make_one_share(world: World) -> None:
    async with world.hub.db.begin() as db:
        server = (await db.scalars(sa.select(Server))).one()
        bob = (await db.scalars(sa.select(User).where(User.name == "bob"))).one()
        await store.grant(db, server, bob, ["access:servers"], now=clock.now())
        row = await store.grant(db, server, bob, ["servers"], now=clock.now())
    assert row.scopes == ["access:servers", "servers"]
    assert await world.hub.count(Share) == 1


async def test_a_revoke_cuts_the_web_sockets_of_who_lost_it_on_that_server_alone(world: World) -> None:
    told = world.hub.app[PROXY].told
    await world.root("POST", "/hub/api/groups/g", json={"users": ["eve"]})
    async with world.hub.client() as browser:
        await browser.login("bob")
        session = browser.cookie("jupyterhub-session-id")
        bob = (await named(world, "bob")).id
        async with world.hub.db.read() as db:
            program = await db.scalar(sa.select(ApiToken.hashed).where(ApiToken.user_id == bob))
        for body in ({"user": "bob"}, {"group": "g"}):
            await world.ann("POST", "/hub/api/shares/ann/x", json=body)
        assert told == []

        await world.ann("PATCH", "/hub/api/shares/ann/x", json={"user": "bob"})
        assert told == [f"{session} /user/ann/x/", f"tokens {program} /user/ann/x/"]
        await world.ann("DELETE", "/hub/api/shares/ann/x")
        assert told[2:] == ["None /user/ann/x/"]
        await world.root("POST", "/hub/api/groups/g/users", json={"users": ["bob"]})
        await world.ann("POST", "/hub/api/shares/ann/x", json={"group": "g"})
        await world.root("DELETE", "/hub/api/groups/g/users", json={"users": ["bob"]})
        assert told[3:] == [session, f"tokens {program}"]


async def test_the_audit_says_who_shared_what_and_never_a_code(world: World) -> None:
    await world.ann("POST", "/hub/api/shares/ann/x", json={"user": "bob"})
    code = (await world.ann("POST", "/hub/api/share-codes/ann/x", json={})).json["code"]

    rows = (await world.root("GET", "/hub/api/audit")).json

    text = str(rows)
    assert "POST api/shares/{user}/{server}" in text
    assert "bob" in text
    assert code not in text


async def named(world: World, name: str) -> User:
    async with world.hub.db.read() as db:
        return (await db.scalars(sa.select(User).where(User.name == name))).one()
