"""A link by which somebody chooses a password, made on their page or when they are added; putting people out there."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest

from component.hub.hub_site import PASSWORD, Answer, Client, Site, site
from himalia_hub import clock
from himalia_hub.auth import first_password
from himalia_hub.users import store as users
from himalia_hub.users.models import User

NEW = "a better horse 7"
PAGE = "/hub/admin/people"


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url) as running:
        await running.person("root", admin=True)
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    async with hub.client() as client:
        assert (await client.login("root")).status == 302
        yield client


async def post(client: Client, path: str, **fields: str) -> Answer:
    xsrf = (await client("GET", "/hub/home")).xsrf
    return await client("POST", path, data={"_xsrf": xsrf} | fields)


async def link(root: Client, name: str) -> str:
    answer = await post(root, f"{PAGE}/access", name=name, does="link")
    assert answer.status == 200, answer.text
    return path_in(answer.text)


def path_in(text: str) -> str:
    found = re.search(r"http://[^/]+(/hub/password\?ticket=[^\s<]+)", html.unescape(text))
    assert found
    return found[1]


async def use(hub: Site, path: str, new: str = NEW) -> Answer:
    async with hub.client() as browser:
        form = await browser("GET", path)
        if form.status != 200:
            return form
        ticket = unquote(path.partition("ticket=")[2])
        fields = {"_xsrf": form.xsrf, "ticket": ticket, "password": new, "password_repeat": new}
        answer = await browser("POST", "/hub/password", data=fields)
        if answer.status == 302:
            assert (await browser("GET", "/hub/home")).status == 200
        return answer


async def person(hub: Site, name: str) -> User:
    async with hub.db.read() as db:
        user = await users.by_name(db, name)
    assert user is not None
    return user


async def test_the_link_sets_one_password_signs_in_and_ends_what_was_signed_in_before(
    hub: Site, root: Client
) -> None:
    await hub.person("ann")
    path = await link(root, "ann")
    async with hub.client() as before:
        await before.login("ann")
        short = await use(hub, path, "short")
        assert (short.status, "8 characters" in short.text) == (400, True)

        assert (await use(hub, path)).status == 302

        assert (await before("GET", "/hub/home")).status == 302, "signed out"
    again = await use(hub, path)
    assert (again.status, "it was used already" in again.text) == (403, True)
    async with hub.client() as after:
        assert (await after.login("ann", PASSWORD)).status == 403
        assert (await after.login("ann", NEW)).status == 302


async def test_who_is_added_comes_in_by_a_link_of_their_own(hub: Site, root: Client) -> None:
    added = await post(root, f"{PAGE}/add", names="ben, cid", sure="1", links="1")
    assert (added.status, "2 people are added" in added.text) == (200, True)
    assert len(set(re.findall(r"ticket=\S+", added.text))) == 2

    assert (await use(hub, path_in(added.text))).status == 302

    async with hub.client() as after:
        assert (await after.login("ben", NEW)).status == 302


async def test_a_link_is_over_in_time_for_the_suspended_and_for_the_next_holder_of_a_number(
    hub: Site, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.person("ann", hashed=None)
    path = await link(root, "ann")
    assert (await use(hub, path.replace("ticket=", "ticket=1"))).status == 403

    assert (await post(root, f"{PAGE}/access", name="ann", does="suspend")).status == 303
    assert (await use(hub, path)).status == 403
    assert (await post(root, f"{PAGE}/access", name="ann", does="lift")).status == 303

    old = await person(hub, "ann")
    assert (await post(root, f"{PAGE}/delete", name="ann", sure="ann")).status == 303
    async with hub.db.begin() as db:
        db.add(User(id=old.id, name="eve", admin=False, created=clock.now()))
    assert (await use(hub, path)).status == 403
    late = clock.now() + first_password.LASTS + timedelta(seconds=1)
    path = await link(root, "eve")
    with monkeypatch.context() as later:
        later.setattr(clock, "now", lambda: late)
        assert (await use(hub, path)).status == 403
    assert (await use(hub, path)).status == 302


async def test_only_whole_administrators_make_links_and_nobody_is_put_out_by_themselves_or_from_below(
    hub: Site, root: Client
) -> None:
    await hub.person("ann")
    helper = await hub.person("helper")
    token = await hub.token(await person(hub, "root"))
    async with hub.client(token) as api:
        scopes = {"scopes": ["admin:users", "list:users", "admin-ui"]}
        assert (await api("PUT", "/hub/api/roles/helper", json=scopes)).status == 201
        given = await api("POST", "/hub/api/roles/helper/members", json={"users": [helper.name]})
        assert given.status == 200
    for does in ("link", "suspend"):
        assert (await post(root, f"{PAGE}/access", name="root", does=does)).status in (400, 403)
    async with hub.client() as client:
        await client.login("helper")
        assert "Make a link" not in (await client("GET", f"{PAGE}?name=ann")).text
        assert (await post(client, f"{PAGE}/access", name="ann", does="link")).status == 403
        assert (await post(client, f"{PAGE}/access", name="root", does="suspend")).status == 403
        assert (await post(client, f"{PAGE}/access", name="ann", does="suspend")).status == 303
        assert "Suspended since" in (await client("GET", f"{PAGE}?name=ann")).text
