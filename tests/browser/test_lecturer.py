"""A lecturer's morning, in the browser from end to end: forty people, a group, its quota, a word to all, start, stop."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import BrowserContext, Page, expect

import steps
from chromium import Watcher
from hubs import Hub
from steps import Shot
from support import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
STUDENTS = [f"student-{number:02}" for number in range(1, 41)]
WELCOME = "Welcome! Open week-1.ipynb when your server runs."
PATIENT_MS = 120_000


async def test_a_lecturer_makes_a_class_starts_it_and_stops_it(
    hub: Hub, context: BrowserContext, watcher: Watcher, shot: Shot
) -> None:
    await hub.start()
    page = await context.new_page()
    await steps.set_up(page, hub, shot)

    await paste_the_class(page, hub)
    await give_the_group_a_quota(page, hub, servers=39)
    await announce(page, hub, context)
    await start_all_but_the_one_beyond_the_quota(page, hub)
    await shot(page, "lecturer-started")
    await make_room_and_try_that_one_again(page, hub)
    await stop_them_all(page, hub)

    assert watcher.unexpected() == []
    await hub.stop()
    assert hub.processes() == []


async def paste_the_class(page: Page, hub: Hub) -> None:
    await page.goto(f"{hub.url}/hub/admin/people/add")
    await page.get_by_label("User names").fill("\n".join(STUDENTS))
    await page.get_by_label("group").fill("week-1")
    await page.get_by_role("button", name="Preview").click()
    await page.get_by_role("button", name="Add 40 people").click()
    await page.get_by_role("link", name="To the list").click()
    await expect(page.get_by_text("1–40 of 40 matching")).to_be_visible(timeout=PATIENT_MS)


async def give_the_group_a_quota(page: Page, hub: Hub, *, servers: int) -> None:
    await page.goto(f"{hub.url}/hub/admin/groups")
    field = page.get_by_label("Servers at once")
    if not await field.is_visible():
        await page.get_by_text("Quota of all members together").click()
    await field.fill(str(servers))
    await page.get_by_role("button", name="Set quota").click()
    await expect(page.get_by_text("Quota of all members together: set here")).to_be_visible()
    await expect(field).to_have_value(str(servers))


async def announce(page: Page, hub: Hub, context: BrowserContext) -> None:
    await page.goto(f"{hub.url}/hub/admin/notices")
    await page.get_by_label("Text").fill(WELCOME)
    await page.get_by_role("button", name="Announce").click()
    await expect(page.get_by_role("row").filter(has_text=WELCOME)).to_be_visible()
    assert context.browser is not None
    stranger = await context.browser.new_context()
    login = await stranger.new_page()
    await login.goto(f"{hub.url}/hub/login")
    await expect(login.get_by_text(WELCOME)).to_be_visible()
    await stranger.close()


async def start_all_but_the_one_beyond_the_quota(page: Page, hub: Hub) -> None:
    await look_at_the_class(page, hub)
    await for_all(page, "start", "Start 40")
    await expect(page.locator("tr[data-state=ready]")).to_have_count(39, timeout=PATIENT_MS)
    await expect(page.locator("#job-title")).to_have_text("39 of 40 started, 1 not", timeout=PATIENT_MS)
    await expect(page.locator(".failures")).to_contain_text(
        "The quota of the group 'week-1' is 39 servers at once"
    )
    await expect(page.locator("[data-count=running]")).to_have_text("39")


async def make_room_and_try_that_one_again(page: Page, hub: Hub) -> None:
    await give_the_group_a_quota(page, hub, servers=40)
    await look_at_the_class(page, hub)
    late = page.locator("tr[data-state=stopped]")
    await expect(late).to_have_count(1)
    await late.get_by_role("button", name="Start").click()
    await expect(page.locator("tr[data-state=ready]")).to_have_count(40, timeout=PATIENT_MS)


async def stop_them_all(page: Page, hub: Hub) -> None:
    await for_all(page, "stop", "Stop 40")
    await expect(page.locator("#job-title")).to_have_text("40 of 40 stopped", timeout=PATIENT_MS)
    await expect(page.locator("tr[data-state=stopped]")).to_have_count(40, timeout=PATIENT_MS)
    await eventually(lambda: not hub.processes(), within_s=60, what="no server of the class runs")


async def look_at_the_class(page: Page, hub: Hub) -> None:
    await page.goto(f"{hub.url}/hub/admin?q=group:week-1")
    await expect(page.locator("body[data-ready][data-live=live]")).to_be_attached()


async def for_all(page: Page, act: str, go_on: str) -> None:
    await page.get_by_label("Select this page").check()
    await expect(page.locator("[data-picked]")).to_have_text("40 selected")
    await page.locator(f"[data-act={act}]").click()
    await page.get_by_role("dialog").get_by_role("button", name=re.compile(go_on)).click(timeout=PATIENT_MS)
    await expect(page.get_by_role("dialog")).to_be_hidden()
