"""While maintenance lasts no start is accepted, by whichever way it is asked for; what runs is let be."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub import hub_site
from component.hub.hub_site import Site
from himalia_hub import clock
from himalia_hub.clock import iso
from himalia_hub.notices import maintenance
from himalia_hub.notices.notice import Notice
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired

HERE = "/hub/api/maintenance"
TEXT = "New disks <b>tonight</b>"


async def begin(hub: Site, ends: timedelta | None = None) -> str:
    """Maintenance, by the API; the administrator's token."""
    root = await hub.token(await hub.person("root", admin=True))
    until = None if ends is None else iso(clock.now() + ends)
    async with hub.client(root) as admin:
        answer = await admin("PUT", HERE, json={"text": TEXT, "ends": until})
        assert answer.status == 200, answer.text
    return root


async def wished(hub: Site) -> int:
    async with hub.db.read() as db:
        query = sa.select(sa.func.count()).where(Server.desired == Desired.RUNNING)
        return await db.scalar(query) or 0


async def test_a_start_is_refused_with_the_text_and_the_end_and_servers_that_run_go_on(
    hub_on_each: Site,
) -> None:
    hub = hub_on_each
    ann = await hub.person("ann")
    await hub.server(await hub.person("bob"))
    root = await begin(hub, timedelta(hours=2))
    async with hub.client(await hub.token(ann)) as client, hub.client(root) as admin:
        refused = await client("POST", "/hub/api/users/ann/server")
        by_admin = await admin("POST", "/hub/api/users/ann/server")
        said = (await client("GET", "/hub/api/announcements")).json
        told = (await admin("GET", HERE)).json
    async with hub.client() as browser:
        await browser.login("ann")
        page = await browser("GET", "/hub/spawn")
        running = await browser("GET", "/hub/home")

    assert (refused.status, by_admin.status) == (503, 503)
    assert refused.json["code"] == "maintenance"
    assert TEXT in refused.json["message"]
    assert 7000 < int(refused.headers["Retry-After"]) <= 7200
    assert page.status == 503
    assert "New disks &lt;b&gt;tonight" in page.text
    assert "Nothing can be started just now" in page.text
    assert "<strong>Maintenance:</strong>" in running.text
    assert [(one["id"], one["text"]) for one in said] == [(0, TEXT)]
    assert (told["on"], told["author"]) == (True, "root")
    assert await wished(hub) == 1


async def test_starts_are_accepted_again_once_it_is_ended_or_its_time_is_over(hub_on_each: Site) -> None:
    hub = hub_on_each
    ann = await hub.token(await hub.person("ann"))
    root = await begin(hub)
    async with hub.client(root) as admin, hub.client(ann) as client:
        assert (await client("POST", "/hub/api/users/ann/server")).status == 503
        assert (await admin("DELETE", HERE)).status == 204
        off = (await admin("GET", HERE)).json
        async with hub.db.begin() as db:
            past = clock.now() - timedelta(seconds=1)
            await maintenance.begin(db, Notice(0, "warning", "over", past, past))
    async with hub.db.begin() as db:
        await maintenance.must_be_over(db, now=clock.now())

    assert off == {"on": False, "text": None, "since": None, "ends": None, "author": None}


async def test_no_start_is_committed_once_maintenance_has_begun(hub_on_each: Site) -> None:
    """A wish that has looked comes first, and the maintenance waits for it."""
    order = []

    async def begins() -> None:
        async with hub_on_each.db.begin() as db:
            await maintenance.begin(db, Notice(0, "warning", TEXT, clock.now(), None))
        order.append("maintenance")

    async with hub_on_each.db.begin() as db:
        await maintenance.must_be_over(db, now=clock.now())
        beginning = asyncio.create_task(begins())
        for _ in range(30):
            await db.execute(sa.text("SELECT 1"))
        order.append("wish")
    await beginning

    assert order == ["wish", "maintenance"]


async def test_a_throw_away_link_is_refused_too(tmp_path: Path) -> None:
    async with hub_site.site(tmp_path, ephemeral={"open_to": "everybody"}) as hub:
        await begin(hub)
        async with hub.client() as visitor:
            page = await visitor("GET", "/hub/v2/gh/o/r/HEAD", headers={"Sec-Fetch-Mode": "navigate"})
            events = await visitor("GET", "/build/gh/o/r/HEAD", headers={"Accept": "text/event-stream"})

    assert (page.status, events.status) == (503, 200)
    assert "New disks" in page.text
    assert '"failed": true' in events.text, "programs read refusals as events"
    assert "New disks" in events.text


@pytest.mark.parametrize("right", ["announcements", "maintenance"])
async def test_each_of_the_two_needs_its_own_right(hub_on_each: Site, right: str) -> None:
    hub = hub_on_each
    token = await hub.token(await hub.person("root", admin=True), right)
    async with hub.client(token) as client:
        announced = await client("POST", "/hub/api/announcements", json={"text": "x"})
        begun = await client("PUT", HERE, json={"text": "x"})

    assert (announced.status, begun.status) == ((201, 403) if right == "announcements" else (403, 200))
