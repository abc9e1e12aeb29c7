"""What one person lets another do, seen from both browsers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from browser.pages.conftest import Tab
from component.hub.pages_site import RUNNING, Site, site
from component.hub.test_shares_api import SETTINGS
from himalia_hub.servers.state import Phase

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Where people may share what is theirs."""
    async with site(tmp_path_factory.mktemp("hub"), **SETTINGS) as running:
        yield running


async def without_following(route: Route) -> None:
    """Show where the answer leads. No proxy is in front of these pages: a hub would ask for it again, ever more slowly."""
    answer = await route.fetch(max_redirects=0)
    await route.fulfill(body=answer.headers["location"], content_type="text/plain")


async def test_a_link_names_owner_server_and_rights_and_only_our_own_page_accepts_it(
    hub: Site, tab: Tab
) -> None:
    owner, _guest = await hub.person("olga"), await hub.person("gus")
    await hub.server(owner, "", RUNNING, Phase.READY)
    async with tab("olga") as page:
        await page.goto("/hub/home")
        await page.get_by_role("link", name="Share").click()
        await page.get_by_label("Good for").select_option("an hour")
        await page.get_by_role("button", name="Make a link").click()
        link = await page.locator("#link").text_content()
        assert link
        await page.reload()
        await expect(page.get_by_text(link)).to_have_count(0)

    async with tab("gus", "403 POST", "status of 403") as page:
        await page.goto(link)
        await expect(page.get_by_text("olga shares their server with you")).to_be_visible()
        await expect(page.locator(".rights li")).not_to_have_count(0)

        forged = "async () => (await fetch('/hub/accept-share', {method: 'POST', body: new URLSearchParams(location.search)})).status"
        assert await page.evaluate(forged) == 403
        await page.goto("/hub/home")
        await expect(page.get_by_text("Shared with you")).to_have_count(0)

        await page.goto(link)
        await page.route(re.compile("/hub/accept-share"), without_following)
        await page.get_by_role("button", name="Accept and open").click()
        await expect(page.get_by_text("/user/olga/")).to_be_visible()
        await page.goto("/hub/home")
        await expect(page.get_by_role("heading", name="Shared with you")).to_be_visible()

    async with tab("olga") as page:
        await page.goto("/hub/home")
        await page.get_by_role("link", name="Share").click()
        await page.get_by_role("button", name="Take back from gus").click()
        await expect(page.get_by_role("button", name="Take back from gus")).to_have_count(0)

    async with tab("gus") as page:
        await page.goto("/hub/home")
        await expect(page.get_by_role("heading", name="Your servers")).to_be_visible()
        await expect(page.get_by_text("Shared with you")).to_have_count(0)
