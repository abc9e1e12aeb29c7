"""The page of roles: make, change, give, also for a time, take and delete; and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from component.hub.hub_site import Answer, Client, Site, site
from himalia_hub import clock
from himalia_hub.groups import store as groups
from himalia_hub.users import store as users

PAGE = "/hub/admin/roles"
CONFIGURED = [{"name": "reader", "scopes": ["list:users"], "users": ["ann"]}]


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url, roles=CONFIGURED) as running:
        await running.person("root", admin=True)
        ann = await running.person("ann")
        async with running.db.begin() as db:
            await groups.add(db, await groups.create(db, "ml"), [ann])
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    async with hub.client() as client:
        assert (await client.login("root")).status == 302
        yield client


async def post(client: Client, does: str, role: str, **fields: str) -> Answer:
    xsrf = (await client("GET", "/hub/home")).xsrf
    return await client("POST", PAGE, data={"_xsrf": xsrf, "does": does, "role": role} | fields)


async def holders(hub: Site, role: str) -> list[tuple[str, str, bool]]:
    """(kind, name, whether it ends by itself) as the API says it."""
    members = (await model(hub, role))["members"]
    return [(one["kind"], one["name"], one["expires_at"] is not None) for one in members]


async def model(hub: Site, role: str) -> dict[str, Any]:
    async with hub.db.read() as db:
        user = await users.by_name(db, "root")
    assert user is not None
    async with hub.client(await hub.token(user)) as client:
        return (await client("GET", f"/hub/api/roles/{role}")).json


async def test_a_role_is_made_given_for_a_time_taken_back_changed_and_deleted(
    hub: Site, root: Client
) -> None:
    until = f"{clock.now() + timedelta(days=2):%Y-%m-%dT%H:%M}"
    made = await post(
        root, "put", "helper", description="For tutors", scope="read:servers", scopes="servers!group=ml"
    )
    given = await post(root, "give", "helper", kind="user", names="ann", until=until)
    assert (made.status, given.location) == (303, f"{PAGE}#role-helper")
    assert await holders(hub, "helper") == [("user", "ann", True)]

    for page in ("/hub/admin/groups", "/hub/admin/people?name=ann"):
        assert "<option>helper</option>" in (await root("GET", page)).text, (
            "it is given where its holder is, too"
        )
    there = await post(root, "give", "helper", kind="group", names="ml", back="groups")
    assert there.location == "/hub/admin/groups#group-ml"
    assert "Roles of its members:" in (await root("GET", "/hub/admin/groups")).text
    shown = (await root("GET", PAGE)).text
    assert "Start, stop and read servers (group ml)." in shown
    assert f"until {until.replace('T', ' ')} UTC" in shown
    assert "by the configuration, 1 holder" in shown
    hers = (await root("GET", "/hub/admin/people?name=ann")).text
    for part in ("#role-helper", "#role-reader", "by the group <bdi>ml</bdi>"):
        assert part in hers
    assert f"until {until.replace('T', ' ')} UTC" in hers

    lasting = await post(root, "give", "helper", kind="user", names="ann", lasts="3", unit="days")
    assert lasting.status == 303
    [ends] = [one["expires_at"] for one in (await model(hub, "helper"))["members"] if one["kind"] == "user"]
    assert abs(datetime.fromisoformat(ends) - clock.now() - timedelta(days=3)) < timedelta(minutes=1)
    for wrong in ({"until": until, "lasts": "3", "unit": "days"}, {"lasts": "0", "unit": "hours"}):
        assert (await post(root, "give", "helper", kind="user", names="ann", **wrong)).status == 400

    await post(root, "take", "helper", kind="user", names="ann")
    assert await holders(hub, "helper") == [("group", "ml", False)]
    edit = (await root("GET", f"{PAGE}?edit=helper")).text
    assert 'value="read:servers" checked' in edit
    assert 'value="servers!group=ml"' in edit
    taken = await post(root, "put", "helper", scope="proxy")
    assert (taken.status, "change that one, or choose another name" in taken.text) == (409, True)
    wrong = await post(root, "put", "helper", edit="helper", scopes="read:everything")
    assert (wrong.status, 'name="edit" value="helper"' in wrong.text) == (400, True)
    await post(root, "put", "helper", edit="helper", description="For tutors", scope="list:users")
    assert (await model(hub, "helper"))["scopes"] == ["list:users"]

    unsure = await post(root, "delete", "helper", sure="help")
    assert (unsure.status, "type the role&#39;s name to confirm" in unsure.text) == (400, True)
    assert (await post(root, "delete", "helper", sure="helper")).location == PAGE
    assert "role-helper" not in (await root("GET", PAGE)).text


@pytest.mark.parametrize(
    ("does", "fields", "status", "words"),
    [
        ("put", {"role": "helper", "scopes": "read:everything"}, 400, "read:everything"),
        ("put", {"role": "helper"}, 400, "choose one at least"),
        ("put", {"role": "1 role", "scopes": "list:users"}, 400, "a letter first"),
        ("put", {"role": "reader", "scopes": "list:users"}, 409, "change it in [[roles]]"),
        ("give", {"role": "reader", "names": "root"}, 409, "change it in [[roles]]"),
        ("give", {"role": "there", "names": "nobody"}, 400, "is no user &#39;nobody&#39;"),
        ("give", {"role": "there", "names": " , "}, 400, "write a name"),
        ("give", {"role": "there", "names": "ann", "kind": "planet"}, 400, "user, group or service"),
        ("give", {"role": "there", "names": "ann", "until": "2020-01-01T00:00"}, 400, "choose a later time"),
        ("give", {"role": "there", "names": "ann", "until": "soon"}, 400, "write a time such as"),
        ("paint", {"role": "there"}, 400, "cannot be done to a role"),
    ],
)
async def test_what_cannot_be_is_named_with_what_to_do_and_changes_nothing(
    hub: Site, root: Client, does: str, fields: dict[str, str], status: int, words: str
) -> None:
    await post(root, "put", "there", scopes="list:users")
    before = await holders(hub, "there")

    refused = await post(root, does, **fields)

    assert (refused.status, words in refused.text) == (status, True), refused.text
    assert does != "give" or f'value="{fields["names"]}"' in refused.text or fields["role"] == "reader"
    assert await holders(hub, "there") == before


async def test_the_page_gives_nobody_more_than_the_giver_has_and_is_closed_to_others(
    hub: Site, root: Client
) -> None:
    await post(root, "put", "giver", scopes="admin-ui admin:roles list:users read:servers")
    await post(root, "put", "watcher", scopes="admin-ui read:roles")
    await post(root, "put", "mighty", scopes="admin:users")
    await post(root, "give", "giver", names="ann")
    for name in ("bob", "eve"):
        await hub.person(name)
    await post(root, "give", "watcher", names="bob")
    async with hub.client() as client:
        assert (await client.login("ann")).status == 302
        for does, fields in (
            ("put", {"role": "own", "scopes": "admin:users"}),
            ("give", {"role": "mighty", "names": "ann"}),
        ):
            refused = await post(client, does, **fields)
            assert (refused.status, "more than you may do yourself" in refused.text) == (403, True)
        assert (await post(client, "put", "own", scope="read:servers")).status == 303
    async with hub.client() as client:
        assert (await client.login("bob")).status == 302
        assert 'name="does"' not in (await client("GET", PAGE)).text
        for does in ("give", "put"):
            assert (await post(client, does, "giver", names="bob", scopes="list:users")).status == 403
    async with hub.client() as client:
        assert (await client.login("eve")).status == 302
        assert (await client("GET", PAGE)).status == 403
    assert await holders(hub, "mighty") == []
