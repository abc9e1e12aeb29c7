"""JupyterLab under our hub: what the hub announces, when it stops the server, keeping it alive, the server's use."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

import lab
from chromium import Watcher
from hubs import Hub, client
from steps import Shot, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# Less than the five minutes from which on it is said: the banner is there as soon as the server runs.
CONFIG = "[cull]\nidle_s = 240\nkeep_alive_s = 3600\n"
NASTY = "Backup at noon <img src=x onerror=document.title='owned'>"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path / "data", config=CONFIG)
    hub.add_user("ada", admin=True)
    yield hub
    hub.clean_up()


async def opened_lab(hub: Hub, page: Page) -> None:
    await sign_in(page, hub.url, "ada")
    await page.get_by_role("button", name=re.compile("^start", re.IGNORECASE)).first.click()
    await page.wait_for_url(re.compile(r"/user/ada/lab"), timeout=lab.SLOW)
    await lab.lab_is_open(page)


async def test_lab_says_what_the_hub_announces_and_when_it_stops_the_server_and_keeps_it_alive(
    hub: Hub, context: BrowserContext, watcher: Watcher, shot: Shot
) -> None:
    await hub.start()
    page = await context.new_page()
    await opened_lab(hub, page)
    told = page.get_by_role("region", name="Announcements of the hub")
    await expect(told.get_by_text(re.compile(r"This server stops in \d min"))).to_be_visible(timeout=lab.SLOW)
    await expect(page.locator(".himalia-usage")).to_have_text(re.compile(r"Memory \d+ MB"), timeout=lab.SLOW)
    await expect(page.get_by_role("link", name="Hub home")).to_have_attribute("href", "/hub/home")

    async with client(hub, hub.token("ada")) as root:
        status, _ = await root.call("POST", "/announcements", json={"level": "warning", "text": NASTY})
        assert status == 201
    await expect(told.get_by_text(NASTY)).to_be_visible(timeout=lab.SLOW)
    await shot(page, "lab-status")

    watcher.expected.append(r"reading 'schema'")  # a fault of Jupyter Notebook's page, under any server
    german = {
        "name": "himalia-language",
        "value": "de",
        "url": f"{hub.url}/",
    }  # chosen at the foot of the hub's pages
    await context.add_cookies([german])
    notebook = await context.new_page()
    await notebook.goto(f"{hub.url}/user/ada/tree")
    same = notebook.get_by_role("region", name="Ankündigungen des Hubs")
    await expect(same.get_by_text(NASTY)).to_be_visible(timeout=lab.SLOW)
    await expect(same.get_by_text(re.compile(r"Dieser Server wird in \d min"))).to_be_visible()
    await context.clear_cookies(name="himalia-language")
    await shot(notebook, "notebook-status")
    await notebook.close()

    await told.get_by_role("button", name="Keep alive").click()
    await expect(told.get_by_text("This server stops")).to_have_count(0, timeout=lab.SLOW)
    await expect(page.locator(".himalia-stop")).to_have_text(re.compile(r"Stops in (1 h|59 min)"))
    await told.get_by_role("button", name="Hide this announcement").click()
    await expect(told).to_be_hidden()

    home = await context.new_page()
    await home.goto(f"{hub.url}/hub/home")
    await expect(home.locator(".facts time[data-until]")).to_have_text(re.compile("in (1 h|59 min)"))
    assert await page.title() != "owned"
    assert watcher.unexpected() == []
