"""One hub and one Chromium for each module: pages over rows that the tests change themselves, with nobody at work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, async_playwright

from chromium import FLAGS, Watcher
from component.hub.hub_site import PASSWORD, quick_passwords
from component.hub.pages_site import Site, site
from himalia_hub.users.models import User

Tab = Callable[..., AbstractAsyncContextManager[Page]]


@pytest.fixture(autouse=True, scope="module")
def passwords() -> Iterator[None]:
    with quick_passwords():
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def root(hub: Site) -> User:
    """The administrator who looks; sorts before everybody."""
    return await hub.person("root", admin=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Chromium]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
def cookies() -> dict[str, list[object]]:
    """Of those who signed in already."""
    return {}


@pytest.fixture
def tab(hub: Site, root: User, chromium: Chromium, cookies: dict[str, list[object]], tmp_path: Path) -> Tab:
    """`async with tab("root") as page`: signed in, and anything in its console that nobody expected fails the test."""

    @asynccontextmanager
    async def opened(name: str = "root", *expected: str, **options: object) -> AsyncIterator[Page]:
        context = await chromium.new_context(base_url=hub.url, **options)  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        watcher = Watcher(list(expected))
        context.on("page", watcher.watch)
        if name in cookies:
            await context.add_cookies(cookies[name])  # type: ignore[arg-type]
        page = await context.new_page()
        if name not in cookies:
            await sign_in(page, name)
            cookies[name] = list(await context.cookies())
        try:
            yield page
        finally:
            await context.close()
        assert watcher.unexpected() == []

    return opened


async def sign_in(page: Page, name: str) -> None:
    await page.goto("/hub/login")
    await page.get_by_label("User name").fill(name)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/hub/home")
