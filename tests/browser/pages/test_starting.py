"""The page of a start in a real browser: what the server writes while it starts, and what a reload keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from browser.pages.conftest import sign_in
from component.hub import hub_site
from component.hub.hub_site import Site
from himalia_hub import clock
from himalia_hub.servers import store
from himalia_hub.servers.state import Phase

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def whole(tmp_path: Path) -> AsyncIterator[Site]:
    async with hub_site.site(tmp_path) as running:
        await running.person("root", admin=True)
        yield running


async def test_the_log_grows_while_a_server_starts_and_a_reload_keeps_it_and_the_steps(
    whole: Site, chromium: Chromium
) -> None:
    server = await whole.server(await whole.person("ann"), phase=Phase.STARTING)
    said = whole.world.spawner.backend.logs.setdefault(server.backend_name, [])
    said.append("reading the settings")
    async with whole.db.begin() as db:
        store.add_event(db, server, "info", 30, "Starting the server", now=clock.now())
    context = await chromium.new_context(base_url=whole.url)
    page = await context.new_page()
    await sign_in(page, "ann")
    await page.goto("/hub/spawn-pending/ann")
    log, steps = page.locator("#log-text"), page.locator("[data-steps] li")

    await expect(log).to_have_text("reading the settings\n")
    said.append("token=abcdefabcdefabcdefabcdef0123456789 listening")
    await expect(log).to_contain_text("listening")
    await expect(log).not_to_contain_text("abcdef")
    await page.reload()
    await expect(log).to_contain_text("listening")
    await expect(steps).to_contain_text(["Starting the server"])
    await context.close()
