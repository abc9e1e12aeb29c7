"""Tokens by the page: rights by boxes and never more than held, shown once, and worth nothing once revoked."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from himalia_hub import clock
from himalia_hub.pages.tokens import OWN_WORDS
from himalia_hub.rbac import expand
from himalia_hub.rbac.scopes import SELF
from himalia_hub.rbac.touch import TOUCHES
from himalia_hub.tokens import store
from himalia_hub.tokens.models import ApiToken

HERE = "/hub/token"
USER = "/hub/api/user"


async def post(browser: Client, path: str, fields: list[tuple[str, str]]) -> object:
    form = await browser("GET", HERE)
    return await browser("POST", path, data=[("_xsrf", form.xsrf), *fields])


def made(note: str = "backup", lasts: str = "3600", *scopes: str) -> list[tuple[str, str]]:
    return [("note", note), ("lasts", lasts), *(("scopes", scope) for scope in scopes)]


async def rows(hub: Site) -> list[ApiToken]:
    async with hub.db.read() as db:
        return list(await db.scalars(sa.select(ApiToken).order_by(ApiToken.id)))


async def test_a_token_has_the_ticked_rights_and_is_shown_once(hub_on_each: Site) -> None:
    hub = hub_on_each
    await hub.person("ann")
    async with hub.client() as browser:
        await browser.login("ann")
        answer = await post(browser, HERE, made("back up", "3600", "read:servers!user"))
        assert (answer.status, answer.location) == (303, HERE)
        first, again = await browser("GET", HERE), await browser("GET", HERE)
    found = re.search(r'id="new-token"[^>]*>([^<]+)<', first.text)
    assert found
    async with hub.client(found[1]) as program:
        model = (await program("GET", USER)).json
    (row,) = await rows(hub)
    await hub.app[TOUCHES].flush(hub.db)
    async with hub.client() as browser:
        await browser.login("ann")
        later = await browser("GET", HERE)

    assert found[1] not in again.text
    assert set(model["scopes"]) >= {"read:servers!user=ann"}
    assert "servers!user=ann" not in model["scopes"]
    assert row.expires_at is not None
    assert timedelta(0) < row.expires_at - clock.now() <= timedelta(hours=1)
    assert row.note == "back up"
    assert "from 127.0.0.1" in later.text


async def test_nobody_gives_a_token_what_they_do_not_hold(hub_on_each: Site) -> None:
    hub = hub_on_each
    await hub.person("ann")
    async with hub.client() as browser:
        await browser.login("ann")
        page = await browser("GET", HERE)
        for scopes in (("admin:users",), ("read:servers!user=bob",), ("nonsense",), ()):
            refused = await post(browser, HERE, made("x", "3600", *scopes))
            assert refused.status == 400, scopes
        for note, lasts in (("", "3600"), ("x" * 201, "3600"), ("x", ""), ("x", "999999999")):
            assert (await post(browser, HERE, made(note, lasts, "read:servers!user"))).status == 400

    assert 'value="servers!user"' in page.text
    assert 'value="servers"' not in page.text
    assert 'value="admin-ui"' not in page.text
    assert await rows(hub) == []


def test_every_right_over_ones_own_things_has_words() -> None:
    assert set(OWN_WORDS) == {name for scope in SELF for name in expand.subscopes(scope)}


async def test_the_longest_time_is_the_configured_one(tmp_path: Path) -> None:
    async with site(tmp_path, auth={"token_max_age_s": 86400}) as hub:
        await hub.person("ann")
        async with hub.client() as browser:
            await browser.login("ann")
            page = await browser("GET", HERE)
            refused = await post(browser, HERE, made("x", "604800", "read:servers!user"))

    assert "a week" not in page.text
    assert refused.status == 400


async def test_revoking_asks_first_and_holds_at_once(hub_on_each: Site) -> None:
    hub = hub_on_each
    ann, bob = await hub.person("ann"), await hub.person("bob")
    secret, other = await hub.token(ann), await hub.token(bob)
    mine, foreign = await rows(hub)
    async with hub.client() as browser, hub.client(secret) as program, hub.client(other) as of_bob:
        await browser.login("ann")
        asked = await post(browser, HERE + "/revoke", [("id", str(mine.id))])
        assert asked.status == 200
        assert (await program("GET", USER)).status == 200
        assert (await post(browser, HERE + "/revoke", [("id", str(mine.id)), ("sure", "1")])).status == 303
        assert (await program("GET", USER)).status == 403
        for number in (str(mine.id), str(foreign.id), "x", ""):
            gone = await post(browser, HERE + "/revoke", [("id", number), ("sure", "1")])
            assert gone.status == 404
        assert (await of_bob("GET", USER)).status == 200


async def test_tokens_of_servers_and_programs_stand_apart_and_say_what_revoking_does(
    hub_on_each: Site,
) -> None:
    hub = hub_on_each
    ann = await hub.person("ann")
    await hub.server(ann, "thesis", secret="of the server itself")
    async with hub.db.begin() as db:
        for _ in range(2):
            await store.issue(db, ann.id, now=clock.now(), scopes=["inherit"], client_id="service-grader")
    of_server, of_program, _ = await rows(hub)
    async with hub.client() as browser:
        await browser.login("ann")
        page = await browser("GET", HERE)
        asked = [
            (await post(browser, HERE + "/revoke", [("id", str(row.id))])).text
            for row in (of_server, of_program)
        ]
        await post(browser, HERE + "/revoke", [("id", str(of_program.id)), ("sure", "1")])

    assert "Of your running servers themselves" in page.text
    assert "Issued to servers and services" in page.text
    assert "Tokens that you made" not in page.text
    assert "lets nobody in any more" in asked[0]
    assert "service-grader" in asked[1]
    assert [row.id for row in await rows(hub)] == [of_server.id]
