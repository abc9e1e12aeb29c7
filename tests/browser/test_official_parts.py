"""The journey's core with JupyterHub's own parts in our places, by configuration alone."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

import lab
import official
from chromium import Watcher
from hubs import PASSWORD, Hub

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def official_singleuser() -> str:
    """Configuration with the official single-user server."""
    return f"[spawner]\ncommand = {json.dumps([official.singleuser(), '--allow-root'])}\n"


@pytest.mark.parametrize("part", ["singleuser", "proxy"])
async def test_the_core_of_the_journey_with_an_official_part(
    part: str,
    tmp_path: Path,
    context: BrowserContext,
    watcher: Watcher,
    shot: Callable[[Page, str], Awaitable[None]],
) -> None:
    if part == "singleuser":
        hub, env = Hub(tmp_path / "data", config=official_singleuser()), {}
        # The stock server answers 403 or 404 to some of its own front end's requests (news, extension manager).
        watcher.expected += [r"^40[034] GET .*/user/ada/", r"^console: "]
    else:
        hub, env = Hub(tmp_path / "data"), {"HIMALIA_PROXY__COMMAND": json.dumps([official.proxy()])}
    try:
        hub.add_user("ada", admin=True)
        await hub.start(env=env)
        page = await context.new_page()
        await page.goto(hub.url)
        await page.locator('input[name="username"]').fill("ada")
        await page.locator('input[name="password"]').fill(PASSWORD)
        await page.locator('form button:not([type="button"])').first.click()
        await page.wait_for_url(re.compile(r"/hub/home"))
        await page.get_by_role("button", name=re.compile("start", re.IGNORECASE)).first.click()
        await page.wait_for_url(re.compile(r"/user/ada/lab"), timeout=lab.SLOW)
        await lab.lab_is_open(page)
        await lab.new_notebook(page)
        answer = await lab.run_cell(page, "6 * 7")
        await shot(page, f"official-{part}")
        await expect(answer).to_contain_text("42", timeout=lab.SLOW)
        await page.goto(f"{hub.url}/hub/home")
        await page.get_by_role("button", name=re.compile("^stop", re.IGNORECASE)).first.click()
        await expect(page.locator("body")).to_contain_text(
            re.compile("stopped", re.IGNORECASE), timeout=30_000
        )

        assert watcher.unexpected() == []
        await hub.stop()
        assert hub.processes() == []
    finally:
        hub.clean_up()
