"""Several ways to sign in on one page, and the contract that each of ours keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from component.hub.hub_site import PASSWORD, Site, site
from himalia_hub.auth import registry
from himalia_hub.auth.admit import NotAdmitted
from himalia_hub.auth.base import Context, Person, Traits
from himalia_hub.auth.contract import PasswordRig, PasswordWayContract
from himalia_hub.auth.door import DOOR, WrongPassword, enter, make_door, sign_in_by_password
from himalia_hub.auth.local import LocalAccounts
from himalia_hub.auth.models import ExternalIdentity
from himalia_hub.auth.shared import Dummy, SharedPassword
from himalia_hub.errors import ConfigError, TooMany
from himalia_hub.settings import HubSettings
from himalia_hub.users.models import User

WORKSHOP = "open the workshop"
WAYS: dict[str, Any] = {
    "here": {"kind": "local"},
    "workshop": {
        "kind": "shared-password", "title": "Workshop", "prefix": "w-", "allow_all": True, "password": WORKSHOP,
    },
    "bench": {"kind": "dummy", "allow_all": True, "i_know_that_this_lets_everybody_in": True},
}  # fmt: skip


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, auth={"methods": WAYS}) as running:
        await running.person("root", admin=True)
        yield running


async def sign_in(hub: Site, method: str, name: str, given: str) -> User:
    return await sign_in_by_password(hub.db, hub.app[DOOR], name, given, method=method, address="10.0.0.7")


class TestLocalAccounts(PasswordWayContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[PasswordRig]:
        async with site(tmp_path) as hub:
            await hub.person("ann")
            await hub.person("bob")
            way = LocalAccounts(LocalAccounts.Settings(), Context("here", hub.db, tmp_path))
            yield PasswordRig(way, "ann", PASSWORD, "bob", PASSWORD, spellings=("Ann", "ANN"))


class TestSharedPassword(PasswordWayContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> PasswordRig:
        (tmp_path / "word").write_text(WORKSHOP + "\n")
        settings = SharedPassword.Settings(password_file=Path("word"))
        way = SharedPassword(settings, Context("workshop", None, tmp_path))
        return PasswordRig(way, "ann", WORKSHOP, "bob", WORKSHOP, spellings=("ANN",), any_name=True)


# ------------------------------------------------------------------ side by side


async def test_every_way_has_its_form_and_the_first_is_the_open_one(hub: Site) -> None:
    async with hub.client() as browser:
        page = (await browser("GET", "/hub/login")).text

    assert page.count('name="method"') == 3
    assert page.index("Account of this hub") < page.index("Workshop") < page.index("bench")
    assert page.count('<details name="way" open>') == 1
    assert len({part.partition('"')[0] for part in page.split(' id="')[1:]}) == page.count(' id="')


async def test_one_way_is_one_plain_form(tmp_path: Path) -> None:
    async with site(tmp_path) as hub, hub.client() as browser:
        page = (await browser("GET", "/hub/login")).text

    assert "<details" not in page
    assert 'id="username"' in page


async def test_each_way_signs_in_its_own_people_under_its_own_names(hub: Site) -> None:
    await hub.person("ann")

    assert (await sign_in(hub, "here", "Ann", PASSWORD)).name == "ann"
    guest = await sign_in(hub, "workshop", "Ann", WORKSHOP)
    assert guest.name == "w-ann"
    assert (await sign_in(hub, "workshop", "ann", WORKSHOP)).id == guest.id


async def test_a_password_of_one_way_is_worth_nothing_at_another(hub: Site) -> None:
    await hub.person("ann")

    for method, given in (("here", WORKSHOP), ("workshop", PASSWORD)):
        with pytest.raises(WrongPassword):
            await sign_in(hub, method, "ann", given)


async def test_the_form_comes_back_open_at_the_way_that_was_tried(hub: Site) -> None:
    async with hub.client() as browser:
        form = await browser("GET", "/hub/login")
        fields = {"username": "zoe", "password": "nope", "_xsrf": form.xsrf, "method": "workshop"}
        answer = await browser("POST", "/hub/login", data=fields)

    assert answer.status == 403
    assert "Wrong user name or password." in answer.text
    opened = answer.text[answer.text.index('<details name="way" open>') :]
    assert opened.index("Workshop") < opened.index('value="zoe"') < opened.index("</details>")


async def test_a_way_that_is_not_configured_is_not_there(hub: Site) -> None:
    async with hub.client() as browser:
        form = await browser("GET", "/hub/login")
        fields = {"username": "ann", "password": PASSWORD, "_xsrf": form.xsrf, "method": "pam"}
        assert (await browser("POST", "/hub/login", data=fields)).status == 404


async def test_a_token_can_be_had_by_any_way(hub: Site) -> None:
    auth = {"username": "zoe", "password": WORKSHOP, "method": "workshop"}
    async with hub.client() as script:
        answers = [
            (await script("POST", "/hub/api/users/w-zoe/tokens", json={"auth": auth | wrong})).status
            for wrong in ({}, {"method": "here"}, {"method": "nowhere"}, {"password": "nope"})
        ]

    assert answers == [201, 403, 404, 403]


# ------------------------------------------------------------------ who comes in


async def test_one_password_for_all_makes_nobody_an_administrator(hub: Site) -> None:
    user = await sign_in(hub, "workshop", "zoe", WORKSHOP)
    async with hub.db.begin() as db:
        await db.execute(sa.update(User).where(User.id == user.id).values(admin=True))

    with pytest.raises(WrongPassword):
        await sign_in(hub, "workshop", "zoe", WORKSHOP)


async def test_one_password_for_all_takes_over_no_account(hub: Site) -> None:
    await hub.person("w-ann")
    await hub.person("w-robot", hashed=None)

    for name in ("ann", "robot"):
        with pytest.raises(WrongPassword):
            await sign_in(hub, "workshop", name, WORKSHOP)


async def test_two_first_visits_at_once_make_one_account(hub_on_each: Site) -> None:
    """CVE-2021-41194: a first password could be set for a name that somebody had."""
    entrance = outside(allow_all=True)
    people = await asyncio.gather(*(enter(hub_on_each.db, entrance, Person("77", "ann")) for _ in range(8)))

    assert len({user.id for user in people}) == 1
    assert await hub_on_each.count(ExternalIdentity) == 1


def outside(realm: str = "far", *, claims: bool = True, **section: Any) -> Any:
    from himalia_hub.auth.door import Entrance
    from himalia_hub.auth.settings import MethodSection

    way = SimpleNamespace(realm=realm, traits=Traits(claims=claims))
    return Entrance("far", MethodSection(kind="x", **section), way)


RULES = [
    ({}, False),
    ({"allow_all": True}, True),
    ({"allowed_users": ["ann"]}, True),
    ({"allowed_users": ["bob"]}, False),
    ({"allowed_users": ["Ann"]}, False),
    ({"admin_users": ["ann"]}, True),
    ({"prefix": "x-", "allowed_users": ["ann"]}, False),
    ({"prefix": "x-", "allowed_users": ["x-ann"]}, True),
    ({"names": {"7": "anna"}, "allowed_users": ["ann"]}, False),
    ({"names": {"7": "anna"}, "allowed_users": ["anna"]}, True),
    ({"names": {"ann": "anna"}, "allowed_users": ["anna"]}, True),
    ({"claim_accounts": True}, False),
]


@pytest.mark.parametrize(("section", "comes_in"), RULES)
async def test_nobody_new_comes_in_without_a_rule_that_lets_them(
    tmp_path: Path, section: dict[str, Any], comes_in: bool
) -> None:
    """CVE-2018-7206: a rule on groups let others in."""
    async with site(tmp_path) as hub:
        try:
            await enter(hub.db, outside(**section), Person("7", "ann"))
            entered = True
        except NotAdmitted:
            entered = False

        assert entered is comes_in
        assert await hub.count(User) == int(comes_in)


@pytest.mark.parametrize(
    ("account", "section", "claims", "theirs"),
    [
        ({"hashed": None}, {"claim_accounts": True}, True, True),
        ({"hashed": None}, {"allow_all": True}, True, False),
        ({"hashed": None}, {"claim_accounts": True}, False, False),
        ({}, {"claim_accounts": True, "allow_all": True}, True, False),
    ],
    ids=["allowed", "not configured", "names are free there", "has a password"],
)
async def test_an_account_made_beforehand_is_claimed_only_where_that_is_allowed(
    tmp_path: Path, account: dict[str, Any], section: dict[str, Any], claims: bool, theirs: bool
) -> None:
    async with site(tmp_path) as hub:
        ann = await hub.person("ann", **account)
        entrance = outside(claims=claims, **section)
        if theirs:
            assert (await enter(hub.db, entrance, Person("7", "ann"))).id == ann.id
            with pytest.raises(NotAdmitted):  # the second who calls themselves so is somebody else
                await enter(hub.db, entrance, Person("8", "ann"))
        else:
            with pytest.raises(NotAdmitted):
                await enter(hub.db, entrance, Person("7", "ann"))


async def test_an_identity_is_realm_and_subject_whatever_the_name(tmp_path: Path) -> None:
    """CVE-2022-31027: an address was believed, whoever vouched for it."""
    async with site(tmp_path) as hub:
        ann = await enter(hub.db, outside(allow_all=True), Person("7", "ann"))

        assert (await enter(hub.db, outside(), Person("7", "renamed"))).id == ann.id
        with pytest.raises(NotAdmitted):
            await enter(hub.db, outside("near", allow_all=True), Person("7", "ann"))


async def test_a_deleted_persons_identity_goes_with_them(tmp_path: Path) -> None:
    async with site(tmp_path) as hub:
        first = await enter(hub.db, outside(allow_all=True), Person("7", "ann"))
        async with hub.db.begin() as db:
            await db.execute(sa.delete(User).where(User.id == first.id))
        assert await hub.count(ExternalIdentity) == 0


async def test_the_named_administrators_are_administrators(tmp_path: Path) -> None:
    async with site(tmp_path) as hub:
        user = await enter(hub.db, outside(admin_users=["ann"]), Person("7", "ann"))
        assert user.admin


# ------------------------------------------------------------------ back-off, configuration


async def test_failures_at_one_way_do_not_lock_the_same_name_at_another(hub: Site) -> None:
    await hub.person("ann")
    for _ in range(5):
        with pytest.raises(WrongPassword):
            await sign_in(hub, "workshop", "ann", "nope")

    with pytest.raises(TooMany):
        await sign_in(hub, "workshop", "ann", WORKSHOP)
    assert (await sign_in(hub, "here", "ann", PASSWORD)).name == "ann"


async def test_without_accounts_of_its_own_a_hub_waits_for_no_set_up(tmp_path: Path) -> None:
    async with site(tmp_path, auth={"methods": {"bench": WAYS["bench"]}}) as hub, hub.client() as browser:
        answer = await browser.login("ann", "x")
        assert (answer.status, answer.location) == (302, "/hub/home")


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"x": {"kind": "lokal"}}, "did you mean 'local'"),
        ({"x": {"kind": "shared-password", "pasword": "long enough"}}, "did you mean 'password'"),
        ({"x": {"kind": "shared-password"}}, "password or password_file"),
        ({"x": {"kind": "shared-password", "password": "short"}}, "8 are needed"),
        ({"x": {"kind": "shared-password", "password_file": "/nowhere"}}, "No such file"),
        ({"x": {"kind": "dummy"}}, "everybody in"),
        ({"x": {"kind": "local", "allow_everyone": True}}, "allow_everyone is unknown"),
    ],
)
def test_a_way_that_cannot_be_used_stops_the_start_and_says_why(
    tmp_path: Path, methods: dict[str, Any], said: str
) -> None:
    settings = HubSettings(data_dir=tmp_path, auth={"methods": methods})

    with pytest.raises(ConfigError) as caught:
        make_door(settings, None)

    assert said in str(caught.value)
    assert "long enough" not in str(caught.value)


def test_a_plug_in_that_fits_neither_protocol_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        async def check(self, name: str) -> None: ...

    faults = registry.way_faults(Odd)

    assert any("Settings" in fault for fault in faults)
    assert any("check() does not take password" in fault for fault in faults)
    assert any("close" in fault for fault in faults)
    assert registry.way_faults(Dummy) == []
