"""Signing in as a person meets it: waits that count down, paths that lead nowhere else, a second step, other browsers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pyotp
import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, expect

from component.hub import hub_site
from component.hub.hub_site import PASSWORD, Site
from himalia_hub import clock
from himalia_hub.auth.second import STEP_S

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

ELSEWHERE = (
    "//evil.example",
    "/\\evil.example",
    "https:evil.example",
    "%2f%2fevil.example",
    "https://evil.example/",
)


@pytest_asyncio.fixture(loop_scope="module")
async def whole(tmp_path: Path) -> AsyncIterator[Site]:
    async with hub_site.site(tmp_path) as running:
        await running.person("root", admin=True)
        await running.person("ann")
        yield running


class Later:
    """The clock of the hub, which stands until a test moves it on: codes and waits end however slow the machine is."""

    def __init__(self) -> None:
        self.began, self.by = clock.now(), timedelta(0)

    def now(self) -> datetime:
        return self.began + self.by


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    moved = Later()
    monkeypatch.setattr(clock, "now", moved.now)
    return moved


async def attempt(page: Page, name: str, password: str) -> None:
    """Send the form and wait for its answer."""
    await page.get_by_label("User name").fill(name)
    await page.get_by_label("Password", exact=True).fill(password)
    async with page.expect_navigation():
        await page.keyboard.press("Enter")


async def test_five_failures_bring_a_wait_that_the_right_password_does_not_end(
    whole: Site, chromium: Chromium, later: Later
) -> None:
    page = await chromium.new_page(base_url=whole.url)
    said = []
    for name in ("nobody", "ann"):
        await page.goto("/hub/login")
        await attempt(page, name, "wrong wrong")
        said.append(await page.get_by_role("alert").inner_text())
    for _ in range(4):
        await attempt(page, "ann", "wrong wrong")
    await attempt(page, "ann", PASSWORD)
    await expect(page.locator("[data-countdown]")).to_contain_text(re.compile(r"\d+ second|try again now"))
    await expect(page).to_have_url(re.compile("/hub/login$"))

    later.by = timedelta(minutes=10)
    await page.goto("/hub/login")
    await attempt(page, "ann", PASSWORD)
    await expect(page).to_have_url(f"{whole.url}/hub/home")
    await page.close()

    assert said[0] == said[1]


async def test_signing_in_leads_on_within_the_hub_and_nowhere_else(whole: Site, chromium: Chromium) -> None:
    for wanted, there in (("/hub/account", "account"), *((path, "home") for path in ELSEWHERE)):
        page = await chromium.new_page(base_url=whole.url)
        await page.goto(f"/hub/login?next={wanted}")
        await attempt(page, "ann", PASSWORD)
        await expect(page).to_have_url(f"{whole.url}/hub/{there}")
        await page.close()


async def test_a_second_step_is_confirmed_before_it_counts_and_each_code_works_once(
    whole: Site, chromium: Chromium, later: Later
) -> None:
    page = await chromium.new_page(base_url=whole.url)
    await page.goto("/hub/login?next=/hub/account")
    await attempt(page, "ann", PASSWORD)
    await page.get_by_role("link", name="Turn on").click()
    secret = (await page.locator("#secret").inner_text()).replace(" ", "")
    await page.get_by_label("Code").fill(
        "000000" if pyotp.TOTP(secret).at(clock.now()) != "000000" else "000001"
    )
    await page.get_by_role("button", name="Turn on").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.get_by_label("Code").fill(pyotp.TOTP(secret).at(clock.now()))
    await page.get_by_role("button", name="Turn on").click()
    codes = (await page.locator("#codes").inner_text()).split()
    async with page.expect_download() as kept:
        await page.get_by_role("link", name="Download").click()
    file = await kept.value
    assert (file.suggested_filename, Path(await file.path()).read_text().split()) == (
        "himalia-recovery-codes.txt",
        codes,
    )
    await page.goto("/hub/account/second-step")
    await expect(page.get_by_role("main")).to_be_visible()
    await expect(page.get_by_text(codes[0])).to_have_count(0)

    async def second_step(code: str) -> Page:
        other = await chromium.new_page(base_url=whole.url)
        await other.goto("/hub/login")
        await attempt(other, "ann", PASSWORD)
        await other.get_by_label("Code").fill(code)
        async with other.expect_navigation():
            await other.keyboard.press("Enter")
        return other

    later.by = 4 * timedelta(seconds=STEP_S)
    fresh = pyotp.TOTP(secret).at(clock.now())
    for code, lets_in in ((fresh, True), (fresh, False), (codes[0], True), (codes[0], False)):
        other = await second_step(code)
        if lets_in:
            await expect(other).to_have_url(f"{whole.url}/hub/home")
        else:
            await expect(other.get_by_role("alert")).to_be_visible()
        await other.close()
    await page.close()


async def test_who_is_signed_out_elsewhere_or_suspended_is_out_at_the_next_action(
    whole: Site, chromium: Chromium
) -> None:
    here, other = [await chromium.new_page(base_url=whole.url) for _ in range(2)]
    for page in (here, other):
        await page.goto("/hub/login?next=/hub/account")
        await attempt(page, "ann", PASSWORD)
    await here.reload()
    rows = here.get_by_role("row")
    await expect(rows.filter(has_text="this browser")).to_have_count(1)
    await here.get_by_role("button", name="Sign out", exact=True).click()
    await expect(rows.filter(has_text="this browser")).to_have_count(1)
    await expect(here.get_by_role("button", name="Sign out", exact=True)).to_have_count(0)
    await other.reload()
    await expect(other.get_by_role("heading", name="Sign in")).to_be_visible()

    async with whole.client(await whole.token(await whole.person("boss", admin=True))) as admin:
        assert (await admin("PUT", "/hub/api/users/ann/suspension")).status == 204
    await here.reload()
    await expect(here.get_by_role("heading", name="Sign in")).to_be_visible()
    await attempt(here, "ann", PASSWORD)
    await expect(here.get_by_role("alert")).to_be_visible()
    for page in (here, other):
        await page.close()
