"""Named servers over REST: made, changed, renamed, removed, and what each refusal says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase

ANN = "/hub/api/users/ann"
AT_REST = {"desired": Desired.STOPPED, "phase": Phase.STOPPED}


@pytest.fixture
async def ann(hub_on_each: Site) -> AsyncIterator[Client]:
    person = await hub_on_each.person("ann")
    async with hub_on_each.client(await hub_on_each.token(person)) as client:
        yield client


async def names(client: Client) -> list[str]:
    """Of the named ones; the default one is always shown, whether it has a row or not."""
    default, *named = sorted((await client("GET", f"{ANN}?include_stopped_servers")).json["servers"])
    assert default == ""
    return named


async def test_a_named_server_is_made_without_being_started(ann: Client) -> None:
    wanted = {"display_name": "My thesis", "user_options": {"kind": "big"}}

    made = await ann("PUT", f"{ANN}/servers/thesis", json=wanted)

    assert (made.status, made.json["stopped"], made.json["ready"]) == (201, True, False)
    assert {key: made.json[key] for key in wanted} == wanted
    assert (await ann("GET", f"{ANN}/servers/thesis")).json == made.json
    assert (await ann("PUT", f"{ANN}/servers/thesis", json={})).status == 409


@pytest.mark.parametrize("name", ["two  spaces", " before", "after ", "a\tb", "x" * 256, 7])
async def test_a_title_that_cannot_be_shown_is_refused(ann: Client, name: object) -> None:
    assert (await ann("PUT", f"{ANN}/servers/thesis", json={"display_name": name})).status == 400
    assert await names(ann) == []


async def test_titles_that_look_the_same_are_the_same(ann: Client) -> None:
    made = await ann("PUT", f"{ANN}/servers/thesis", json={"display_name": "Zoe\u0308"})
    assert made.json["display_name"] == "Zo\u00eb"


async def test_the_default_server_cannot_be_made_and_no_other_takes_its_place(
    hub_on_each: Site, ann: Client
) -> None:
    made = await ann("PUT", f"{ANN}/servers/", json={})
    assert made.status == 409
    async with hub_on_each.db.read() as db:
        person = await db.scalar(sa.select(Server.user_id))
    assert person is None  # refusing made no row
    await ann("PUT", f"{ANN}/servers/a", json={})

    assert (await ann("PUT", f"{ANN}/servers/", json={"name": "b"})).status == 409
    assert (await ann("PATCH", f"{ANN}/servers/a", json={"name": ""})).status == 409


async def test_the_default_server_can_be_named_for_people_and_report_before_it_ever_started(
    ann: Client,
) -> None:
    titled = await ann("PATCH", f"{ANN}/server", json={"display_name": "Mine"})
    reported = await ann(
        "POST", f"{ANN}/activity", json={"servers": {"": {"last_activity": "2026-01-01T00:00:00Z"}}}
    )

    assert (titled.status, titled.json["display_name"], reported.status) == (200, "Mine", 200)
    shown = (await ann("GET", f"{ANN}?include_stopped_servers")).json["servers"][""]
    assert (shown["display_name"], shown["last_activity"]) == ("Mine", "2026-01-01T00:00:00Z")


async def test_a_default_server_that_gets_a_name_keeps_its_shares_and_leaves_a_new_one(
    hub_on_each: Site, ann: Client
) -> None:
    await hub_on_each.person("bob")
    bob = await hub_on_each.token(await hub_on_each.person("root", admin=True))
    await ann("PATCH", f"{ANN}/server", json={"user_options": {"x": 1}, "display_name": "Mine"})
    async with hub_on_each.client(bob) as root:
        assert (await root("POST", "/hub/api/shares/ann/", json={"user": "bob"})).status == 200
        named = await ann("PATCH", f"{ANN}/server", json={"name": "first", "display_name": None})
        assert (named.status, named.json["name"], named.json["display_name"]) == (200, "first", "Mine")
        assert (await root("GET", "/hub/api/shares/ann/first")).json["_pagination"]["total"] == 1
        assert (await root("GET", "/hub/api/shares/ann")).json["_pagination"]["total"] == 1
    shown = (await ann("GET", f"{ANN}?include_stopped_servers")).json["servers"]
    assert (shown[""]["user_options"], shown["first"]["user_options"]) == ({}, {"x": 1})


async def test_a_renamed_server_keeps_its_options_and_what_the_spawner_has_of_it(
    hub_on_each: Site, ann: Client
) -> None:
    await ann("PUT", f"{ANN}/servers/a", json={"user_options": {"x": 1}, "display_name": "A"})
    before = await _backend_names(hub_on_each)

    renamed = await ann("PATCH", f"{ANN}/servers/a", json={"name": "b"})

    assert (renamed.status, renamed.json["name"], renamed.json["url"]) == (200, "b", "/user/ann/b/")
    assert (renamed.json["user_options"], renamed.json["display_name"]) == ({"x": 1}, "A")
    assert (await ann("GET", f"{ANN}/servers/a")).status == 404
    assert await _backend_names(hub_on_each) == {"b": before["a"]}


async def test_the_old_name_is_free_for_another_server_again_and_again(
    hub_on_each: Site, ann: Client
) -> None:
    for later in ("b", "c"):
        assert (await ann("PUT", f"{ANN}/servers/a", json={})).status == 201
        assert (await ann("PATCH", f"{ANN}/servers/a", json={"name": later})).status == 200
    assert (await ann("PUT", f"{ANN}/servers/a", json={})).status == 201

    assert await names(ann) == ["a", "b", "c"]
    assert len(set((await _backend_names(hub_on_each)).values())) == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "taken"}, 409),
        ({"name": ""}, 409),
        ({"name": "Not A Slug"}, 400),
        ({"name": "a--b"}, 400),
        ({"name": "x" * 31}, 400),
        ({"name": 5}, 400),
        ({"display_name": "line\nbreak"}, 400),
        ({"user_options": []}, 400),
        ({"colour": "red"}, 400),
        ({}, 400),
    ],
)
async def test_what_cannot_be_changed_is_refused_and_changes_nothing(
    ann: Client, body: dict[str, Any], status: int
) -> None:
    for name in ("mine", "taken"):
        await ann("PUT", f"{ANN}/servers/{name}", json={})
    before = (await ann("GET", f"{ANN}/servers/mine")).json

    refused = await ann("PATCH", f"{ANN}/servers/mine", json={"display_name": "new", **body} if body else {})

    assert (refused.status, bool(refused.json["message"])) == (status, True)
    assert (await ann("GET", f"{ANN}/servers/mine")).json == before


async def test_an_active_server_is_not_changed(hub_on_each: Site) -> None:
    person = await hub_on_each.person("ann")
    await hub_on_each.server(person, "busy")
    async with hub_on_each.client(await hub_on_each.token(person)) as ann:
        for body in ({"name": "other"}, {"display_name": "Other"}, {"user_options": {}}):
            assert (await ann("PATCH", f"{ANN}/servers/busy", json=body)).status == 400
        assert await names(ann) == ["busy"]


async def test_a_server_that_is_not_there_is_404(ann: Client) -> None:
    for method, body in (("GET", None), ("PATCH", {"name": "b"}), ("DELETE", None)):
        assert (await ann(method, f"{ANN}/servers/a", json=body)).status == 404


async def test_only_a_named_server_can_be_removed(hub_on_each: Site) -> None:
    person = await hub_on_each.person("ann")
    for name in ("", "a"):
        await hub_on_each.server(person, name, **AT_REST)
    async with hub_on_each.client(await hub_on_each.token(person)) as ann:
        assert (await ann("DELETE", f"{ANN}/server", json={"remove": True})).status == 400
        assert (await ann("DELETE", f"{ANN}/servers/a", json={"remove": "yes"})).status == 400
        assert (await ann("DELETE", f"{ANN}/servers/a")).status == 204
        assert await names(ann) == ["a"]


async def test_without_named_servers_every_one_of_their_requests_is_400(tmp_path: Path) -> None:
    async with site(tmp_path, servers={"allow_named": False}) as hub:
        person = await hub.person("ann")
        async with hub.client(await hub.token(person)) as ann:
            for method in ("PUT", "POST", "DELETE"):
                refused = await ann(method, f"{ANN}/servers/a", json={})
                assert (refused.status, "servers.allow_named" in refused.text) == (400, True), method


async def test_a_person_at_their_limit_makes_no_further_server(tmp_path: Path) -> None:
    async with site(tmp_path, servers={"named_limit_per_user": 1}) as hub:
        person = await hub.person("ann")
        async with hub.client(await hub.token(person)) as ann:
            assert (await ann("PUT", f"{ANN}/servers/a", json={})).status == 201
            for method in ("PUT", "POST"):
                assert (await ann(method, f"{ANN}/servers/b", json={})).status == 400, method
            assert (await ann("PATCH", f"{ANN}/server", json={"name": "c"})).status == 400
            assert (await ann("PATCH", f"{ANN}/servers/a", json={"name": "b"})).status == 200


async def _backend_names(hub: Site) -> dict[str, str]:
    async with hub.db.read() as db:
        rows = await db.execute(sa.select(Server.name, Server.backend_name))
        return {row.name: row.backend_name for row in rows}
