"""Announcing and maintenance from the pages: previewed, as text, and live in a tab that is open elsewhere."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from browser.pages.conftest import Tab
from component.hub.pages_site import RUNNING, Site
from himalia_hub.servers.state import Phase

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

TEXT = "<img src=x onerror=alert(1)> moves to B 12 \u202etonight"


async def test_what_is_announced_shows_in_an_open_tab_and_maintenance_refuses_starts(
    hub: Site, tab: Tab
) -> None:
    await hub.server(await hub.person("kim"), "thesis", RUNNING, Phase.READY)
    async with tab("kim", "503") as other, tab("root") as page:
        await other.goto("/hub/home")
        await expect(other.locator("body[data-live=live]")).to_be_attached()
        banner = other.locator("#notices")

        await page.goto("/hub/admin/notices")
        await page.get_by_label("Text").fill(TEXT)
        await page.get_by_label("Level").select_option("danger")
        await page.get_by_role("button", name="Preview").click()
        await expect(page.get_by_role("region", name="As people will see it")).to_contain_text(TEXT)
        await expect(page.locator("#notices .notice")).to_have_count(0)
        await page.get_by_role("button", name="Announce").click()
        await expect(page.locator("#notices")).to_contain_text(TEXT)
        await expect(banner).to_contain_text(f"Important: {TEXT}")

        await page.get_by_role("button", name="Take down").click()
        await expect(banner).not_to_contain_text(TEXT)
        await expect(page.locator("#notices")).not_to_contain_text(
            TEXT
        )  # the page that came of it is filled in

        await page.get_by_label("What people read").fill("New disks")
        await page.get_by_label("Over at").fill("2030-01-31T12:00")
        await page.get_by_role("button", name="Begin maintenance").click()
        await expect(banner).to_contain_text("Maintenance: New disks (until 2030-01-31 12:00 UTC)")
        await other.goto("/hub/spawn")
        await expect(other.get_by_role("heading", name="Nothing can be started just now")).to_be_visible()

        await page.get_by_role("button", name="End maintenance").click()
        await expect(page.get_by_role("button", name="Begin maintenance")).to_be_visible()
        await other.goto("/hub/home")
        await expect(other.locator("[data-state=ready]").get_by_role("link", name="Open")).to_be_visible()
        await expect(banner.locator(".notice")).to_have_count(0)
