"""Tokens in a browser: made by ticking boxes, seen once, revoked after a question."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from browser.pages.conftest import Tab
from component.hub.pages_site import Site

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_a_token_is_seen_once_and_revoked_after_a_question(hub: Site, tab: Tab) -> None:
    await hub.person("lou")
    async with tab("lou") as page:
        await page.goto("/hub/account")
        await page.get_by_role("link", name="See and make tokens").click()
        await page.get_by_label("What it is for").fill("nightly <b>copy</b>")
        await page.get_by_label("Start your servers").check()
        await page.get_by_role("button", name="Make the token").click()
        await expect(page.get_by_role("heading", name="Your new token")).to_be_visible()
        secret = await page.locator("#new-token").text_content()
        assert secret

        await page.reload()
        await expect(page.get_by_role("row", name="nightly <b>copy</b>")).to_be_visible()
        await expect(page.get_by_text(secret)).to_have_count(0)

        await page.get_by_role("button", name="Revoke nightly").click()
        await expect(page.get_by_role("heading", name="Revoke “nightly <b>copy</b>”?")).to_be_visible()
        await page.get_by_role("button", name="Revoke it").click()
        await expect(page.get_by_role("heading", name="No tokens")).to_be_visible()
