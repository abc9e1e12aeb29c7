"""Sharing from the pages: real forms, by a person with a browser, on both sides."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from component.hub.hub_site import Answer, Client, Site, site
from component.hub.test_shares_api import SETTINGS
from himalia_hub import clock
from himalia_hub.shares.models import Share, ShareCode

CODE = re.compile(r"/hub/accept-share\?code=([\w-]+)")
UNKNOWN = "not known, or its time is over"


@dataclass
class Pages:
    hub: Site
    ann: Client
    bob: Client

    async def send(self, who: Client, path: str, **form: str) -> Answer:
        shown = await who("GET", "/hub/home")
        return await who("POST", path, data={"_xsrf": shown.xsrf, **form})

    async def link(self) -> str:
        made = await self.send(self.ann, "/hub/share/ann/x", action="link", expires_in="3600")
        assert made.status == 200
        found = CODE.search(html.unescape(made.text))
        assert found, made.text
        return found[1]


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(site(tmp_path, **SETTINGS))
        ann = await hub.person("ann")
        await hub.person("bob")
        await hub.server(ann, "x")
        clients = {name: await stack.enter_async_context(hub.client()) for name in ("ann", "bob")}
        for name, client in clients.items():
            await client.login(name)
        yield Pages(hub, **clients)


async def test_the_owner_shares_from_the_home_card_and_takes_it_back(pages: Pages) -> None:
    assert 'href="/hub/share/ann/x"' in (await pages.ann("GET", "/hub/home")).text

    given = await pages.send(
        pages.ann, "/hub/share/ann/x", action="give", kind="user", name="bob", rights="run"
    )

    assert (given.status, given.location) == (303, "/hub/share/ann/x")
    shown = (await pages.ann("GET", "/hub/share/ann/x")).text
    assert "<bdi>bob</bdi>" in shown
    assert '<td data-label="May">open, start and stop it</td>' in shown
    assert "<bdi>x</bdi> of <bdi>ann</bdi>" in (await pages.bob("GET", "/hub/home")).text
    back = await pages.send(pages.ann, "/hub/share/ann/x", action="take", kind="user", name="bob")
    assert back.status == 303
    assert "Shared with you" not in (await pages.bob("GET", "/hub/home")).text


async def test_a_default_server_can_be_shared_before_its_first_start(pages: Pages) -> None:
    assert (await pages.ann("GET", "/hub/share/ann")).status == 200
    assert (
        await pages.send(pages.ann, "/hub/share/ann", action="give", kind="user", name="bob")
    ).status == 303
    home = (await pages.bob("GET", "/hub/home")).text
    assert 'href="/user/ann/"' in home
    assert "not running" in home


async def test_what_is_wrong_is_said_beside_the_form(pages: Pages) -> None:
    for form, status, words in (
        ({"action": "give", "kind": "user", "name": "nobody"}, 400, "No such user: nobody"),
        ({"action": "give", "kind": "group", "name": "nobody"}, 400, "No such group: nobody"),
        ({"action": "give", "kind": "user", "name": " "}, 400, "A name is needed"),
        ({"action": "link", "expires_in": "soon"}, 400, "how long"),
        ({"action": "link", "expires_in": "1"}, 400, "expires_in"),
        ({"action": "unlink", "id": "sc_99"}, 404, "sc_99"),
        ({"action": "unlink"}, 404, "No code"),
        ({"action": "nonsense"}, 400, "does not say"),
    ):
        answer = await pages.send(pages.ann, "/hub/share/ann/x", **form)
        assert (answer.status, words in html.unescape(answer.text)) == (status, True), form
    assert await pages.hub.count(Share) == await pages.hub.count(ShareCode) == 0


async def test_nobody_shares_what_is_not_theirs(pages: Pages) -> None:
    assert (await pages.bob("GET", "/hub/share/ann/x")).status == 404
    taken = await pages.send(pages.bob, "/hub/share/ann/x", action="give", kind="user", name="bob")
    assert taken.status == 404
    assert (await pages.ann("GET", "/hub/share/ann/nothing")).status == 404


async def test_a_link_names_owner_server_and_rights_and_leads_there(pages: Pages) -> None:
    code = await pages.link()

    asked = await pages.bob("GET", f"/hub/accept-share?code={code}")

    assert asked.status == 200
    for words in (
        "ann",
        "x",
        "bob",
        "access:servers!server=ann/x",
        "Open this server: notebooks, files, terminals.",
    ):
        assert words in asked.text
    assert await pages.hub.count(Share) == 0  # looking is not accepting
    accepted = await pages.send(pages.bob, "/hub/accept-share", code=code)
    assert (accepted.status, accepted.location) == (302, "/user/ann/x/")
    assert '<td data-label="Accepted">1 time</td>' in (await pages.ann("GET", "/hub/share/ann/x")).text
    again = await pages.send(pages.bob, "/hub/accept-share?next=/hub/home", code=code)
    assert (again.location, await pages.hub.count(Share)) == ("/hub/home", 1)
    away = await pages.send(pages.bob, "/hub/accept-share?next=https://evil.example/", code=code)
    assert away.location == "/user/ann/x/"
    assert (await pages.send(pages.bob, "/hub/home/leave", owner="ann", server="x")).status == 303
    assert await pages.hub.count(Share) == 0


async def test_accepting_needs_proof_that_our_page_asked(pages: Pages) -> None:
    code = await pages.link()

    assert (await pages.bob("POST", "/hub/accept-share", data={"code": code})).status == 403
    assert (await pages.bob("POST", f"/hub/accept-share?code={code}")).status == 403
    assert await pages.hub.count(Share) == 0


async def test_who_is_signed_out_comes_back_to_the_invitation(pages: Pages) -> None:
    async with pages.hub.client() as stranger:
        answer = await stranger("GET", "/hub/accept-share?code=abc")
        assert answer.location == "/hub/login?next=/hub/accept-share%3Fcode%3Dabc"


async def test_a_link_that_is_over_or_ones_own_is_said(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    code = await pages.link()
    own = await pages.ann("GET", f"/hub/accept-share?code={code}")
    assert (own.status, "your own server" in own.text) == (403, True)
    assert (await pages.send(pages.ann, "/hub/accept-share", code=code)).status == 400
    for wrong in ("", "?code=", "?code=nonsense"):
        answer = await pages.bob("GET", f"/hub/accept-share{wrong}")
        assert (answer.status, UNKNOWN in answer.text) == (404, True)
    assert (await pages.send(pages.bob, "/hub/accept-share", code="nonsense")).status == 400

    later = clock.now() + timedelta(seconds=3601)
    monkeypatch.setattr(clock, "now", lambda: later)

    assert (await pages.bob("GET", f"/hub/accept-share?code={code}")).status == 404
    assert (await pages.send(pages.bob, "/hub/accept-share", code=code)).status == 400


async def test_a_link_can_be_ended(pages: Pages) -> None:
    code = await pages.link()
    found = re.search(r'name="id" value="(sc_\d+)"', (await pages.ann("GET", "/hub/share/ann/x")).text)
    assert found

    assert (await pages.send(pages.ann, "/hub/share/ann/x", action="unlink", id=found[1])).status == 303

    assert (await pages.bob("GET", f"/hub/accept-share?code={code}")).status == 404
