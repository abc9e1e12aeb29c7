"""Choosing what to start: in requests, on pages, and what is remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from component.hub import hub_site, pages_site
from himalia_hub.groups import store as groups

PROFILES = [
    {"name": "small", "title": "Small one", "description": "For exercises."},
    {"name": "large", "title": "Large one"},
    {"name": "staff", "title": "For staff", "groups": ["staff"]},
]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[hub_site.Site]:
    async with hub_site.site(tmp_path, profiles=PROFILES, servers={"slow_start_s": 0}) as running:
        yield running


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[pages_site.Site]:
    async with pages_site.site(tmp_path, profiles=PROFILES) as running:
        yield running


async def test_a_start_with_an_offered_profile_is_kept_and_any_other_is_refused(hub: hub_site.Site) -> None:
    ann = await hub.person("ann")
    async with hub.client(await hub.token(ann)) as client:
        for options in ({"profile": "staff"}, {"profile": "none"}, {"image": "x"}):
            refused = await client("POST", "/hub/api/users/ann/server", json=options)
            assert refused.status == 400, options
        for form in ({"profile": "large"}, {"user_options": {"profile": "large"}}):
            assert (await client("POST", "/hub/api/users/ann/server", json=form)).status == 202
            model = (await client("GET", "/hub/api/users/ann?include_stopped_servers=1")).json
            assert model["servers"][""]["user_options"] == {"profile": "large"}


async def test_membership_opens_a_profile_at_once(hub: hub_site.Site) -> None:
    ann = await hub.person("ann")
    async with hub.db.begin() as db:
        group = await groups.create(db, "staff")
        await groups.add(db, group, [ann])
    async with hub.client(await hub.token(ann)) as client:
        assert (await client("POST", "/hub/api/users/ann/server", json={"profile": "staff"})).status == 202


async def test_a_named_server_is_made_with_its_own_profile(hub: hub_site.Site) -> None:
    ann = await hub.person("ann")
    async with hub.client(await hub.token(ann)) as client:
        made = await client(
            "PUT", "/hub/api/users/ann/servers/x", json={"user_options": {"profile": "large"}}
        )
        assert (made.status, made.json["user_options"]) == (201, {"profile": "large"})
        wrong = await client(
            "PUT", "/hub/api/users/ann/servers/y", json={"user_options": {"profile": "staff"}}
        )
        assert wrong.status == 400
        changed = await client(
            "PATCH", "/hub/api/users/ann/servers/x", json={"user_options": {"profile": "small"}}
        )
        assert changed.json["user_options"] == {"profile": "small"}


async def test_the_pages_offer_what_this_person_may_choose_and_remember_it(pages: pages_site.Site) -> None:
    ann = await pages.person("ann")
    async with pages.browser("ann") as browser:
        home = (await browser.get("/hub/home")).text
        assert '<option value="small" selected' in home
        assert "For staff" not in home
        asked = await browser.get("/hub/spawn")
        assert (asked.status, "Small one" in asked.text, "For exercises." in asked.text) == (200, True, True)
        assert await pages.row("ann") is None  # a visit starts nothing while there is a choice
        started = await browser.post("/hub/spawn/ann", {"profile": "large"})
        assert started.location == "/hub/spawn-pending/ann"
        row = await pages.row("ann")
        assert row is not None
        assert row.user_options == {"profile": "large"}
        refused = await browser.post("/hub/spawn/ann/thesis", {"profile": "staff"})
        assert refused.status == 400
        assert "staff" in refused.text
    await pages.server(ann, "other", user_options={"profile": "large"})
    async with pages.browser("ann") as browser:
        assert '<option value="large" selected' in (await browser.get("/hub/home")).text


async def test_an_address_with_the_option_starts_without_asking(pages: pages_site.Site) -> None:
    await pages.person("ann")
    async with pages.browser("ann") as browser:
        answer = await browser.get("/hub/spawn?opt-profile=large")
        assert answer.location == "/hub/spawn-pending/ann"
        row = await pages.row("ann")
        assert row is not None
        assert row.user_options == {"profile": "large"}
