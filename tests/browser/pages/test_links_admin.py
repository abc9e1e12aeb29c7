"""Links for administrators: the page follows what happens, and a ban is read by whoever waits."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from browser.pages.conftest import Tab
from component.hub import link_rows
from component.hub.pages_site import Site
from himalia_hub.ephemeral.models import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_the_page_follows_by_itself_and_a_ban_ends_the_queue(hub: Site, tab: Tab) -> None:
    async with hub.db.begin() as db:
        await link_rows.some(db)
    async with tab("root") as page:
        await page.goto("/hub/admin/links")
        await expect(page.locator(".lead")).to_contain_text("1 running of at most 20, 1 in the queue")
        async with hub.db.begin() as db:
            await link_rows.launch(db, "eve/miner", Stage.WAITING)
        await expect(page.get_by_role("row", name="eve/miner")).to_contain_text("Queued, number 2")

        await page.get_by_label("Repository (gh/OWNER/NAME").fill("gh/eve/miner")
        await page.get_by_label("Reason that people read").fill("It mines coins")
        await page.get_by_role("button", name="Ban it").click()
        await expect(page.get_by_role("button", name="Lift the ban of eve/miner")).to_be_visible()
        await expect(page.get_by_role("row", name="eve/miner").first).to_contain_text("Ending")

        await page.get_by_role("link", name="5e1f5e1f5e1f log").click()
        await expect(page.locator("pre")).to_contain_text("Downloading <numpy> 50 %")
