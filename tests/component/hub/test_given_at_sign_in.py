"""What the place where somebody signs in gives them: groups, roles, administration, a name to be shown."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from component.hub.hub_site import Client, Site, site
from component.hub.test_suspension import CuttingProxy
from himalia_hub.auth.base import Person, Traits
from himalia_hub.auth.door import DOOR, Door, Entrance, enter, make_door
from himalia_hub.auth.given import groups_here
from himalia_hub.auth.settings import MethodSection
from himalia_hub.errors import ConfigError
from himalia_hub.keys import PROXY
from himalia_hub.settings import HubSettings

TABLE: dict[str, Any] = {
    "allow_all": True,
    "groups_from": "groups",
    "groups": {"tutors": ["cn=tutors,dc=x", "cn=assistants,dc=x"]},
    "roles": {"helper": ["helpers"], "graders": ["graders"], "admin": ["root"]},
}


def place(realm: str = "far", **section: Any) -> Entrance:
    way: Any = SimpleNamespace(realm=realm, traits=Traits(tells=True))
    return Entrance("far", MethodSection(kind="x", **(TABLE | section)), way)


async def comes(hub: Site, *groups: str, at: Entrance | None = None, shown: str = "") -> None:
    person = Person("7", "ann", groups=frozenset(groups), display_name=shown)
    await enter(hub.db, at or place(), person)


async def told(admin: Client) -> dict[str, Any]:
    return (await admin("GET", "/hub/api/users/ann")).json


async def test_groups_come_with_a_sign_in_and_go_with_the_next_that_says_them_no_longer(
    hub_on_each: Site,
) -> None:
    hub = hub_on_each
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as admin:
        await comes(hub, "cn=tutors,dc=x", "unknown here")
        assert (await told(admin))["groups"] == ["tutors"]
        await comes(hub, "cn=assistants,dc=x")
        assert (await told(admin))["groups"] == ["tutors"]
        await comes(hub)
        assert (await told(admin))["groups"] == []


async def test_what_a_sign_in_takes_is_cut_in_the_persons_other_browsers(hub_on_each: Site) -> None:
    hub, groups = hub_on_each, frozenset({"cn=tutors,dc=x"})
    proxy = hub.app._state[PROXY] = CuttingProxy()

    class Way:
        realm, traits = "far", Traits(tells=True)

        async def check(self, name: str, password: str) -> Person | None:
            return Person("7", name, groups=groups)

        async def close(self) -> None: ...

    await hub.app[DOOR].replace_by(Door([Entrance("far", MethodSection(kind="x", **TABLE), Way())]))
    async with hub.client() as first, hub.client() as second, hub.client() as third:
        for browser in (first, second):
            assert (await browser.login("ann")).status == 302
        assert proxy.told == []
        groups = frozenset()
        await third.login("ann")
        sessions = [each.cookie("jupyterhub-session-id") for each in (first, second, third)]
    assert sorted(proxy.told) == sorted(sessions)


async def test_what_somebody_gave_by_hand_stays_whatever_a_sign_in_says(hub_on_each: Site) -> None:
    hub = hub_on_each
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as admin:
        await comes(hub, "cn=tutors,dc=x")
        for name in ("tutors", "course"):  # in the first they are by the sign-in: from now on by hand as well
            await admin("POST", f"/hub/api/groups/{name}")
            added = await admin("POST", f"/hub/api/groups/{name}/users", json={"users": ["ann"]})
            assert added.status == 200, added.text
        await admin("PUT", "/hub/api/roles/reader", json={"scopes": ["read:servers"]})
        given = await admin("POST", "/hub/api/roles/reader/members", json={"users": ["ann"]})
        assert given.status == 200, given.text
        assert (await admin("PATCH", "/hub/api/users/ann", json={"admin": True})).status == 200

        await comes(hub, "root")
        await comes(hub)

        model = await told(admin)
        assert model["groups"] == ["course", "tutors"]
        assert "reader" in model["roles"]
        assert model["admin"], "made an administrator by hand"


async def test_roles_of_rows_and_of_the_configuration_come_and_go_likewise(tmp_path: Path) -> None:
    roles = [{"name": "graders", "scopes": ["read:users"]}]
    async with site(tmp_path, roles=roles) as hub:
        token = await hub.token(await hub.person("root", admin=True))
        async with hub.client(token) as admin:
            await admin("PUT", "/hub/api/roles/helper", json={"scopes": ["list:services"]})
            await comes(hub, "helpers", "graders")
            assert (await told(admin))["roles"] == ["graders", "helper", "user"]
            members = (await admin("GET", "/hub/api/roles/helper")).json["members"]
            assert [each["name"] for each in members] == ["ann"]
            ann = await enter(hub.db, place(), Person("7", "ann", groups=frozenset({"helpers", "graders"})))
            async with hub.client(await hub.token(ann)) as client:
                scopes = (await client("GET", "/hub/api/user")).json["scopes"]
                assert {"list:services", "read:users"} <= set(scopes)
                await comes(hub, "graders")
                scopes = (await client("GET", "/hub/api/user")).json["scopes"]
                assert ("list:services" in scopes, "read:users" in scopes) == (False, True)


async def test_administration_is_given_and_taken_but_not_that_of_who_was_made_one_by_hand(
    hub_on_each: Site,
) -> None:
    hub = hub_on_each
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as admin:
        for groups, is_admin in (((), False), (("root",), True), (("root",), True), ((), False)):
            await comes(hub, *groups)
            assert (await told(admin))["admin"] is is_admin, groups
        await comes(hub, "root")
        assert (await admin("PATCH", "/hub/api/users/ann", json={"admin": False})).status == 200
        assert (await told(admin))["roles"] == ["user"]
        await comes(hub, "root")
        assert (await told(admin))["admin"], "the next sign-in says it again"
        await comes(hub, at=place(admin_users=["ann"]))
        assert (await told(admin))["admin"], "named in the configuration"


async def test_a_place_takes_away_only_what_it_gave(hub_on_each: Site) -> None:
    hub = hub_on_each
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as admin:
        await comes(hub, "cn=tutors,dc=x", "root")
        async with hub.db.begin() as db:
            from himalia_hub.auth.models import ExternalIdentity
            from himalia_hub.users import store as users

            ann = await users.by_name(db, "ann")
            assert ann is not None
            db.add(ExternalIdentity(realm="near", subject="7", user_id=ann.id, created=ann.created))
        await comes(hub, at=place("near"))
        model = await told(admin)
        assert (model["groups"], model["admin"]) == (["tutors"], True)


async def test_a_shown_name_is_in_the_model_as_jupyterhub_has_it(hub_on_each: Site) -> None:
    hub = hub_on_each
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as admin:
        await comes(hub, shown=" Ann Ärmel ")
        assert (await told(admin))["user_info"] == {"name": "Ann Ärmel", "display_name": "Ann Ärmel"}
        await comes(hub, shown="two\nlines")
        assert (await told(admin))["user_info"] is None


def test_all_groups_are_those_of_the_table_and_every_other_one_that_can_be_a_name() -> None:
    section = MethodSection(kind="x", **(TABLE | {"all_groups": True}))

    found = groups_here(section, frozenset({"cn=tutors,dc=x", "maths", "a/b", " ", "x" * 256, "tab\t"}))

    assert found == {"tutors", "maths"}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"groups": {"tutors": ["x"]}}, "need groups_from"),
        ({"all_groups": True}, "need groups_from"),
        ({"groups_from": "groups", "groups": {"a/b": ["x"]}}, "'a/b' cannot be"),
        ({"groups_from": "groups", "roles": {"server": ["x"]}}, "'server' is no role"),
    ],
)
def test_a_table_that_could_do_nothing_is_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MethodSection(kind="x", **section)


async def test_a_kind_that_knows_no_groups_does_not_take_the_setting(hub_on_each: Site) -> None:
    way = {"kind": "shared-password", "password": "open the workshop", "groups_from": "groups"}
    settings = HubSettings(data_dir="/nowhere", auth={"methods": {"workshop": way}})

    with pytest.raises(ConfigError, match="tells of no groups"):
        make_door(settings, hub_on_each.db)
