"""The stream behind the list: lost and found again, and quick where there are many."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from browser.pages.conftest import sign_in
from component.hub.hub_site import stored
from component.hub.pages_site import RUNNING, Site, site
from himalia_hub import clock
from himalia_hub.servers.state import Phase
from himalia_hub.users.models import User

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PEOPLE = 5000


async def test_a_cut_line_says_so_and_comes_back_with_the_right_state(
    tmp_path: Path, chromium: Chromium
) -> None:
    async with site(tmp_path) as first:
        await first.person("root", admin=True)
        server = await first.server(await first.person("ann"), "", RUNNING, Phase.STARTING)
        context = await chromium.new_context(base_url=first.url)
        page = await context.new_page()
        await sign_in(page, "root")
        await page.goto("/hub/admin")
        await expect(page.locator("body[data-live=live]")).to_be_attached()
        await page.evaluate("window.mark = 1")
        port = int(first.url.rpartition(":")[2])

    row = page.locator("tr[data-name=ann]")
    await expect(page.locator("[data-mark]")).to_contain_text("reconnecting")
    await expect(row.get_by_role("button", name="Stop")).to_be_disabled()

    async with site(tmp_path, at_port=port) as second:
        await second.change(server, phase=Phase.READY)
        await expect(row).to_have_attribute("data-state", "ready")
        await expect(page.locator("[data-mark]")).to_contain_text("live")
        await expect(row.get_by_role("button", name="Stop")).to_be_enabled()
        assert await page.evaluate("window.mark") == 1
        await context.close()


async def test_where_streams_are_swallowed_the_list_is_read_instead(hub: Site, chromium: Chromium) -> None:
    await hub.person("poller", admin=True)
    context = await chromium.new_context(base_url=hub.url)
    await context.route("**/admin/events**", lambda route: route.abort())
    page = await context.new_page()
    await sign_in(page, "poller")
    await page.goto("/hub/admin?q=poller")

    await expect(page.locator("[data-mark]")).to_contain_text("polling")
    await expect(page.get_by_role("button", name="Start the server of poller")).to_be_enabled()
    await context.close()


async def test_five_thousand_people_are_listed_and_searched_at_once(
    tmp_path: Path, chromium: Chromium
) -> None:
    async with site(tmp_path) as hub:
        await hub.person("root", admin=True)
        async with hub.db.begin() as db:
            db.add_all(
                User(name=f"student{number:04}", password_hash=stored(), created=clock.now())
                for number in range(PEOPLE)
            )
        context = await chromium.new_context(base_url=hub.url)
        page = await context.new_page()
        await sign_in(page, "root")
        began = time.monotonic()
        await page.goto("/hub/admin")
        await expect(page.get_by_text(re.compile(f"1–50 of {PEOPLE + 1}"))).to_be_visible()
        first_page_s = time.monotonic() - began
        await expect(page.locator("body[data-live=live]")).to_be_attached()
        async with page.expect_response(re.compile("q=student49")) as answer:
            await page.get_by_role("searchbox").fill("student49")
        timing = (await answer.value).request.timing
        await expect(page.get_by_text("1–50 of 100 matching")).to_be_visible()
        await context.close()

    # The machine may be busy with other things: a page that reads every row would take tens of seconds.
    assert first_page_s < 15
    assert timing["responseStart"] < 5000
