"""Chromium, watched: console errors and failed requests are kept, and every test says which ones it expects."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from chromium import FLAGS, SHOTS, Watcher
from hubs import Hub


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.fail(
            "Chromium is missing; run: apt-get install -y --no-install-recommends chromium", pytrace=False
        )
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        await chromium.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile, as wide as a laptop."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(60_000)
    yield context
    await context.close()


@pytest.fixture
def watcher(context: BrowserContext) -> Watcher:
    """Follows every page of the context from its first request."""
    watcher = Watcher()
    context.on("page", watcher.watch)
    return watcher


@pytest.fixture
def shot() -> Callable[[Page, str], Awaitable[None]]:
    """Write a screenshot to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)

    async def take(page: Page, name: str) -> None:
        await page.screenshot(path=SHOTS / f"{name}.png")

    return take


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub on an empty folder, not started; whatever the test leaves running is killed."""
    hub = Hub(tmp_path / "data")
    yield hub
    hub.clean_up()
