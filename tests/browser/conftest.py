"""Chromium, watched: console errors and failed requests are kept, and every test says which ones it expects."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Response, async_playwright

from hubs import Hub

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOTS = Path(os.environ.get("HIMALIA_SHOTS", Path(__file__).parent / "shots"))


@dataclass
class Watcher:
    """What went wrong in the pages of one context. `expected` holds patterns of `STATUS METHOD URL` or console text."""

    expected: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Follow this page."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.seen.append(f"page error: {error}"))
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        # A failed request is reported by its response, with its method; Chromium's console line only repeats it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.seen.append(f"console: {message.text}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.seen.append(f"{response.status} {response.request.method} {response.url}")

    def unexpected(self) -> list[str]:
        """What no pattern allows."""
        return [line for line in self.seen if not any(re.search(pattern, line) for pattern in self.expected)]


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
    context.set_default_timeout(30_000)
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
