"""Signing out, here or from another browser, as who has JupyterLab open sees it."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, Page, WebSocket, expect

import lab
from hubs import Hub
from steps import sign_in
from support import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


async def at_work(page: Page, hub: Hub) -> list[WebSocket]:
    """A notebook with a kernel; the WebSockets that are open to the server."""
    opened: list[WebSocket] = []
    page.on("websocket", lambda one: opened.append(one))  # noqa: PLW0108 -- playwright wants a function of its own kind
    await page.goto(f"{hub.url}/user/ada/lab")
    await lab.lab_is_open(page)
    if await page.locator(".jp-NotebookPanel").count() == 0:
        await lab.new_notebook(page)
    await lab.kernel_is_idle(page)
    found = [one for one in opened if "/channels" in one.url and not one.is_closed()]
    assert found
    return found


async def closed(sockets: list[WebSocket]) -> None:
    # The promise is five seconds; a machine that is busy with other tests may need more.
    await eventually(
        lambda: all(one.is_closed() for one in sockets), within_s=30, what="Lab's WebSockets end"
    )


async def test_who_is_signed_out_elsewhere_or_in_another_tab_loses_lab_and_is_asked_to_sign_in(
    hub: Hub, browser: Browser
) -> None:
    """CVE-2021-41247: with two tabs of Lab open, one of them stayed signed in."""
    hub.add_user("ada", admin=True)
    await hub.start()
    office = await browser.new_context()
    home = await browser.new_context()
    work, tab = await office.new_page(), await office.new_page()
    await sign_in(work, f"{hub.url}/hub/login", "ada")
    await work.get_by_role("button", name=re.compile("^start", re.IGNORECASE)).first.click()
    await work.wait_for_url(re.compile(r"/user/ada/lab"), timeout=lab.SLOW)
    sockets = await at_work(work, hub)

    elsewhere = await home.new_page()
    await sign_in(elsewhere, f"{hub.url}/hub/login", "ada")
    await elsewhere.goto(f"{hub.url}/hub/account")
    await elsewhere.get_by_role("button", name="Sign out everywhere else").click()
    await closed(sockets)
    await tab.goto(f"{hub.url}/hub/home")
    await expect(tab).to_have_url(re.compile("/hub/login"))

    await sign_in(tab, f"{hub.url}/hub/login", "ada")
    sockets = await at_work(work, hub)
    await tab.goto(f"{hub.url}/hub/account")
    await (
        tab.get_by_role("navigation")
        .or_(tab.get_by_role("banner"))
        .get_by_role("link", name="Sign out")
        .first.click()
    )
    await closed(sockets)
    await work.goto(f"{hub.url}/user/ada/lab")
    await expect(work).to_have_url(re.compile("/hub/login"))
    await expect(elsewhere.get_by_role("heading", name="Account")).to_be_visible()
    for one in (office, home):
        await one.close()
