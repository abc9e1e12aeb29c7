"""A person's way through the official JupyterHub, its own single-user server and our proxy, in Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, expect

import lab
from conformance.official_hub import PASSWORD, official_hub

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


async def test_the_core_of_the_journey_at_jupyterhub_leads_through_our_proxy(
    tmp_path: Path, context: BrowserContext
) -> None:
    async with official_hub(tmp_path) as hub:
        page = await context.new_page()
        await page.goto(hub.url)
        await page.locator('input[name="username"]').fill("ada")
        await page.locator('input[name="password"]').fill(PASSWORD)
        await page.locator("#login_submit").click()
        await page.wait_for_url(re.compile(r"/user/ada/lab"), timeout=150_000)
        await lab.lab_is_open(page)
        await lab.new_notebook(page)
        await expect(await lab.run_cell(page, "6 * 7")).to_contain_text("42", timeout=lab.SLOW)

        await page.goto(f"{hub.url}hub/home")
        await page.locator("#stop").click()
        await expect(page.locator("#start")).to_contain_text("Start My Server", timeout=lab.SLOW)
        log = hub.said()
    assert "Traceback" not in log, log
