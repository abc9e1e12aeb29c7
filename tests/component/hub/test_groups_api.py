"""Groups over REST: who is in them, who may read and change them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from component.hub.hub_site import Client, Site, site


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        for name in ("ann", "bob"):
            await running.person(name)
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as client:
        yield client


async def test_a_group_is_made_filled_emptied_and_deleted(root: Client) -> None:
    made = await root("POST", "/hub/api/groups/staff", json={"users": ["ann"]})
    assert (made.status, made.json) == (
        201,
        {"kind": "group", "name": "staff", "users": ["ann"], "roles": [], "properties": {}},
    )
    for _ in range(2):  # adding twice is harmless
        added = await root("POST", "/hub/api/groups/staff/users", json={"users": ["bob", "ann"]})
        assert (added.status, added.json["users"]) == (200, ["ann", "bob"])
    assert (await root("GET", "/hub/api/users/ann")).json["groups"] == ["staff"]
    listed = {user["name"]: user["groups"] for user in (await root("GET", "/hub/api/users")).json}
    assert listed == {"ann": ["staff"], "bob": ["staff"], "root": []}
    left = await root("DELETE", "/hub/api/groups/staff/users", json={"users": ["ann"]})
    assert (left.status, left.json["users"]) == (200, ["bob"])
    changed = await root("PUT", "/hub/api/groups/staff/properties", json={"room": 3})
    assert changed.json["properties"] == {"room": 3}
    assert (await root("DELETE", "/hub/api/groups/staff")).status == 204
    assert (await root("GET", "/hub/api/groups/staff")).status == 404
    assert (await root("GET", "/hub/api/users/bob")).json["groups"] == []


async def test_several_groups_are_made_at_once_or_not_at_all(root: Client) -> None:
    made = await root("POST", "/hub/api/groups", json={"groups": ["a", "b"], "users": ["bob"]})
    assert (made.status, [group["users"] for group in made.json]) == (201, [["bob"], ["bob"]])
    assert (await root("POST", "/hub/api/groups", json={"groups": ["c", "a"]})).status == 409
    assert [group["name"] for group in (await root("GET", "/hub/api/groups")).json] == ["a", "b"]
    assert len((await root("GET", "/hub/api/groups?limit=1&offset=1")).json) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "groups", {"groups": []}, 400),
        ("POST", "groups", {}, 400),
        ("POST", "groups/x", {"users": ["nobody"]}, 400),
        ("POST", "groups/there", {}, 409),
        ("POST", "groups/there/users", {}, 400),
        ("POST", "groups/there/users", {"users": ["nobody"]}, 400),
        ("DELETE", "groups/there/users", {"users": "ann"}, 400),
        ("PUT", "groups/there/properties", ["x"], 400),
        ("POST", "groups/none/users", {"users": ["ann"]}, 404),
        ("DELETE", "groups/none", None, 404),
        ("POST", f"groups/{'x' * 256}", None, 400),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    root: Client, method: str, path: str, body: object, status: int
) -> None:
    await root("POST", "/hub/api/groups/there")
    answer = await root(method, f"/hub/api/{path}", json=body)
    assert (answer.status, answer.json["status"]) == (status, status)


async def test_a_person_without_the_right_sees_and_changes_nothing(hub: Site, root: Client) -> None:
    await root("POST", "/hub/api/groups/staff", json={"users": ["ann"]})
    ann = await hub.person("carl")
    async with hub.client(await hub.token(ann)) as client:
        assert (await client("GET", "/hub/api/groups")).status == 403
        assert (await client("GET", "/hub/api/groups/staff")).status == 403
        assert (await client("POST", "/hub/api/groups/staff/users", json={"users": ["ann"]})).status == 403


async def test_a_token_for_one_group_reaches_that_group_only(hub: Site, root: Client) -> None:
    for name in ("staff", "other"):
        await root("POST", f"/hub/api/groups/{name}")
    boss = await hub.person("boss", admin=True)
    async with hub.client(await hub.token(boss, "groups!group=staff")) as client:
        assert [group["name"] for group in (await client("GET", "/hub/api/groups")).json] == ["staff"]
        assert (await client("POST", "/hub/api/groups/staff/users", json={"users": ["ann"]})).status == 200
        assert (await client("POST", "/hub/api/groups/other/users", json={"users": ["ann"]})).status == 404
    async with hub.client(await hub.token(boss, "list:groups")) as client:
        assert (await client("GET", "/hub/api/groups")).json[0] == {"kind": "group", "name": "other"}


async def test_people_who_are_deleted_leave_their_groups(root: Client) -> None:
    await root("POST", "/hub/api/groups/staff", json={"users": ["ann", "bob"]})
    assert (await root("DELETE", "/hub/api/users/ann")).status == 204
    assert (await root("GET", "/hub/api/groups/staff")).json["users"] == ["bob"]


async def test_who_manages_a_group_chooses_on_its_page_who_is_in_it_and_has_no_other_page(
    hub: Site, root: Client
) -> None:
    page = "/hub/admin/groups"
    await root("POST", "/hub/api/groups/ml", json={"users": []})
    await root("POST", "/hub/api/groups/other", json={"users": []})

    async def post(client: Client, does: str, people: str, group: str = "ml") -> int:
        xsrf = (await client("GET", "/hub/home")).xsrf
        fields = {"_xsrf": xsrf, "does": does, "group": group, "people": people}
        return (await client("POST", page, data=fields)).status

    async with hub.client() as admin, hub.client() as ann:
        await admin.login("root")
        await ann.login("ann")
        assert (await ann("GET", page)).status == 403
        assert await post(ann, "add", "bob") == 403

        assert await post(admin, "manage", "ann") == 303

        assert '/hub/admin/groups"' in (await ann("GET", "/hub/home")).text
        assert await post(ann, "add", "bob") == 303
        shown = (await ann("GET", page)).text
        assert 'id="group-ml"' in shown
        assert 'id="group-other"' not in shown
        assert "/hub/admin/audit" not in shown
        assert [await post(ann, does, "bob") for does in ("manage", "unmanage", "delete")] == [404] * 3
        assert await post(ann, "add", "bob", "other") == 404
        assert (await ann("GET", "/hub/admin")).status == 403

        assert await post(admin, "unmanage", "ann") == 303
        assert (await ann("GET", page)).status == 403
        assert (await root("GET", "/hub/api/groups/ml")).json["users"] == ["ann", "bob"]
