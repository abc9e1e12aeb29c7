from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Page, async_playwright, expect
from playwright.async_api import TimeoutError as TooLate

from chromium import FLAGS
from component.hub.pages_site import FAILURE, PASSWORD, RUNNING, STOPPED, Site, site
from himalia_hub import clock
from himalia_hub.servers.state import Phase
from himalia_hub.users.models import User

pytestmark = pytest.mark.browser

FITS = "document.body.dataset.ready && document.documentElement.scrollWidth <= innerWidth"
NASTY = ["<img src=x onerror=alert(1)>", "\u202eevil\u202c مريم", "x" * 255, "🌙 luna", "a'\"&amp;{{7*7}}"]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


@pytest.fixture
async def ann(hub: Site) -> User:
    return await hub.person("ann", admin=True)


@pytest.fixture
async def chromium() -> AsyncIterator[Chromium]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def tab(
    chromium: Chromium, hub: Site, name: str | None = "ann", **options: object
) -> AsyncIterator[Page]:
    """A page whose console stays silent: a refused style, a script error or a dialog fails the test."""
    context: BrowserContext = await chromium.new_context(base_url=hub.url, **options)  # type: ignore[arg-type]
    context.set_default_timeout(60_000)
    page = await context.new_page()
    noise: list[str] = []
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append(f"dialog {dialog.message}"))
    page.on(
        "console",
        lambda line: (
            noise.append(line.text) if line.type == "error" and "status of" not in line.text else None
        ),
    )
    if name is not None:
        await sign_in(page, name)
    yield page
    await context.close()
    assert noise == []


async def sign_in(page: Page, name: str) -> None:
    await page.goto("/hub/login")
    await page.get_by_label("User name").fill(name)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/hub/home")


async def test_wrong_password_says_so_and_returns_the_focus(hub: Site, ann: User, chromium: Chromium) -> None:
    async with tab(chromium, hub, None) as page:
        await page.goto("/hub/login")
        await expect(page.get_by_label("User name")).to_be_focused()
        await page.get_by_label("User name").fill("ann")
        await page.get_by_label("Password", exact=True).fill("wrong wrong")
        await page.keyboard.press("Enter")

        await expect(page.get_by_role("alert")).to_contain_text("Wrong user name or password")
        await expect(page.get_by_label("Password", exact=True)).to_be_focused()
        await expect(page.get_by_label("User name")).to_have_value("ann")


async def test_the_password_can_be_shown_by_keyboard(hub: Site, ann: User, chromium: Chromium) -> None:
    async with tab(chromium, hub, None) as page:
        await page.goto("/hub/login")
        field, button = (
            page.get_by_label("Password", exact=True),
            page.get_by_role("button", name="Show password"),
        )
        await field.fill("secret")
        await page.keyboard.press("Tab")
        await expect(button).to_be_focused()
        await page.keyboard.press("Space")

        await expect(field).to_have_attribute("type", "text")
        await expect(button).to_have_attribute("aria-pressed", "true")


async def test_the_place_in_the_queue_counts_down_without_reload_and_then_it_starts(
    hub: Site, ann: User, chromium: Chromium
) -> None:
    others = [
        await hub.server(await hub.person(name), "", RUNNING, queued_at=clock.now(), generation=2)
        for name in ("ben", "cat")
    ]
    server = await hub.server(ann, "", RUNNING, queued_at=clock.now(), generation=2)
    await hub.event(server, "Server requested", progress=0)
    async with tab(chromium, hub) as page:
        await page.goto("/hub/spawn-pending/ann")
        await page.evaluate("window.kept = true")
        place = page.locator("[data-place]")
        await expect(place).to_contain_text("number 3")
        for one, words in zip(others, ("number 2", "you are next"), strict=True):
            await hub.change(one, queued_at=None)
            await expect(place).to_contain_text(words)
        await hub.change(server, queued_at=None)
        await hub.event(server, "Starting the server", progress=20)

        await expect(page.locator("[data-steps] li").last).to_contain_text("Starting the server")
        await expect(place).to_be_hidden()
        assert await page.evaluate("window.kept")


async def test_progress_grows_without_reload_and_ends_at_the_server(
    hub: Site, ann: User, chromium: Chromium
) -> None:
    server = await hub.server(ann, "", RUNNING, Phase.STARTING)
    await hub.event(server, "Server requested", progress=0)
    async with tab(chromium, hub) as page:
        await page.goto("/hub/spawn-pending/ann?next=/hub/home")
        await page.evaluate("window.mark = 1")
        steps = page.get_by_role("listitem")
        await expect(steps).to_have_count(1)

        await hub.event(server, "Starting <b>it</b>", progress=20)
        await expect(steps.nth(1)).to_contain_text("Starting <b>it</b>")
        await expect(page.get_by_role("progressbar")).to_have_attribute("value", "20")
        assert await page.evaluate("window.mark") == 1

        await page.reload()
        await expect(steps).to_have_count(2)
        await hub.change(server, phase=Phase.READY)
        await page.wait_for_url("**/hub/home")


async def test_a_failure_turns_the_progress_into_its_cause(hub: Site, ann: User, chromium: Chromium) -> None:
    server = await hub.server(ann, "", RUNNING, Phase.STARTING)
    async with tab(chromium, hub) as page:
        await page.goto("/hub/spawn-pending/ann")
        await hub.change(server, phase=Phase.FAILED, desired=STOPPED, failure=FAILURE)

        await expect(page.get_by_role("heading", level=1)).to_have_text("Your server did not start")
        await expect(page.locator("pre")).to_contain_text("No space left on device")
        await page.get_by_role("button", name="Copy").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()

        await expect(page.get_by_text("There is no room left for your files")).to_be_visible()
        await page.get_by_role("button", name="Start in safe mode").click()
        await expect(page.get_by_role("progressbar")).to_be_visible()
        await page.goto("/hub/home")
        await expect(page.get_by_role("article")).to_contain_text("Safe mode")
    row = await hub.row("ann")
    assert row is not None
    assert (row.desired, row.safe_mode, row.user_options) == (RUNNING, True, {})


async def test_a_hub_that_dies_and_returns_does_not_end_the_wait(tmp_path: Path, chromium: Chromium) -> None:
    async with site(tmp_path) as first:
        ann = await first.person("ann")
        server = await first.server(ann, "", RUNNING, Phase.STARTING)
        port = int(first.url.rpartition(":")[2])
        opened = tab(chromium, first)
        page = await opened.__aenter__()
        await page.goto("/hub/spawn-pending/ann?next=/hub/home")
        await expect(page.locator("body[data-ready]")).to_be_attached()

    await expect(page.get_by_text("Reconnecting to the hub")).to_be_visible()

    async with site(tmp_path, at_port=port) as second:
        await second.change(server, phase=Phase.READY)
        await page.wait_for_url("**/hub/home")
    await page.context.close()


async def test_stopping_changes_the_card_without_reload(hub: Site, ann: User, chromium: Chromium) -> None:
    server = await hub.server(ann, "", RUNNING, Phase.READY)
    async with tab(chromium, hub) as page:
        await page.evaluate("window.mark = 1")
        card = page.get_by_role("article")
        await card.get_by_role("button", name="Stop").click()
        await expect(card.get_by_role("button", name="Stopping")).to_be_disabled()

        await hub.change(server, phase=Phase.STOPPED)

        await expect(card.get_by_role("button", name="Start")).to_be_visible()
        await expect(page.locator("[data-say]")).to_have_text("My server: Stopped")
        assert await page.evaluate("window.mark") == 1


async def test_everything_works_without_javascript(hub: Site, ann: User, chromium: Chromium) -> None:
    async with tab(chromium, hub, java_script_enabled=False) as page:
        await page.get_by_role("button", name="Start").click()
        await page.wait_for_url("**/hub/spawn-pending/ann")
        server = await hub.row("ann")
        assert server is not None
        await hub.change(server, phase=Phase.STARTING, acted_generation=1)
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Stopping your server")

        await hub.change(server, phase=Phase.STOPPED)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Your server is not running")

        await page.get_by_role("link", name="Admin").click()
        await page.get_by_role("row").filter(has_text="ann").get_by_role("button", name="Start").click()
        await expect(page.get_by_role("row").filter(has_text="ann")).to_contain_text("Starting")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_scrolls_sideways_or_runs_a_name(
    hub: Site, ann: User, chromium: Chromium, scheme: str
) -> None:
    for name in NASTY:
        user = await hub.person(name)
        await hub.server(
            user, "x", STOPPED, Phase.FAILED, display_name=name, failure=FAILURE | {"message": name}
        )
    await hub.server(
        ann, "w" * 30, STOPPED, Phase.FAILED, display_name=NASTY[2], failure=FAILURE | {"message": NASTY[2]}
    )
    await hub.server(ann, "y", STOPPED, Phase.STOPPING, display_name=NASTY[0])
    paths = ["home", "admin", "admin?q=" + "z" * 200, f"spawn-pending/ann/{'w' * 30}", "spawn-pending/ann/y",
             "spawn-pending/ann", "user/ann/" + "long" * 60, "nothing/here", "error/503"]  # fmt: skip
    async with tab(chromium, hub, color_scheme=scheme) as page:
        for width in (360, 768, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            for path in paths:
                await page.goto(f"/hub/{path}")
                try:  # waiting outlives the reload by which the page of a 503 tries again
                    await page.wait_for_function(FITS)
                except TooLate as error:
                    raise AssertionError(f"{path} scrolls sideways at {width}") from error


async def test_keep_alive_moves_the_countdown_without_leaving_the_page(
    tmp_path: Path, chromium: Chromium
) -> None:
    async with site(tmp_path, cull={"idle_s": 3600}) as hub:
        used = clock.now() - timedelta(minutes=56)
        person = await hub.person("ann", admin=True)
        await hub.server(person, "", RUNNING, Phase.READY, started=used, last_activity=used)
        async with tab(chromium, hub) as page:
            await expect(page.locator(".facts time[data-until]")).to_have_text(re.compile(r"in (3|4) min"))
            await expect(page.get_by_text("unless you use it or keep it alive")).to_be_visible()
            await page.evaluate("window.mark = 1")

            await page.get_by_role("button", name="Keep alive").click()

            await expect(page.locator(".facts time[data-until]")).to_have_text(re.compile(r"in (1 h|59 min)"))
            await expect(page.get_by_text("unless you use it or keep it alive")).to_be_hidden()
            assert await page.evaluate("window.mark") == 1
            await expect(page.get_by_role("button", name="Keep alive")).to_be_focused()
