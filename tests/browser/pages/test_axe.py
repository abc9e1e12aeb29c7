"""Every page for everybody: axe-core finds nothing, nothing scrolls sideways, and what people switch on is honoured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, expect

from browser.pages.conftest import sign_in
from browser.pages.sample import PAGES, SETTINGS, fill
from component.hub.pages_site import site

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

AXE = Path(__file__).parents[2] / "official" / "node_modules" / "axe-core" / "axe.min.js"
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations.map(
    (found) => `${found.id}: ${found.help}: ${found.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(" | ")}`
)"""
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"
EDGELESS = """() => [...document.querySelectorAll("button, a.button, input, select")].filter((one) => {
    const style = getComputedStyle(one);
    return one.checkVisibility() && one.type !== "checkbox" && one.type !== "radio" && style.borderStyle === "none";
}).map((one) => `no edge: ${one.outerHTML.slice(0, 80)}`)"""
MOVES = (
    """() => document.getAnimations().filter((one) => one.playState === "running").map((one) => "moves")"""
)
FOCUS = """() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> AsyncIterator[Page]:
    """Root's, on a hub with something of everything; a server of theirs is about to be stopped."""
    async with site(tmp_path_factory.mktemp("axe"), **SETTINGS | {"cull": {"idle_s": 900}}) as hub:
        await fill(hub)
        context = await chromium.new_context(base_url=hub.url)
        context.set_default_timeout(60_000)
        page = await context.new_page()
        await sign_in(page, "root")
        yield page
        await context.close()


async def opened(page: Page, path: str) -> None:
    await page.goto(f"/hub/{path}")
    await expect(page.locator("body[data-ready]")).to_be_attached()


async def judged(page: Page) -> dict[str, list[str]]:
    """What axe has to say at three widths and in both themes; its source comes in past the page's content policy."""
    await page.evaluate(AXE.read_text())
    problems = {}
    for scheme, widths in (
        ("light", (1280, 768, 360)),
        ("dark", (360,)),
    ):  # colours are the same at any width
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        for width in widths:
            await page.set_viewport_size({"width": width, "height": 900})
            found: list[str] = await page.evaluate(RUN)
            if await page.evaluate(SIDEWAYS) > 0:
                found.append("scrolls sideways")
            if found:
                problems[f"{scheme} {width}"] = found
    return problems


async def test_axe_finds_nothing_on_any_page_in_either_theme_at_any_width(page: Page) -> None:
    problems: dict[str, dict[str, list[str]]] = {}
    for name, path in PAGES.items():
        await opened(page, path)
        problems[name] = await judged(page)
    await page.set_viewport_size({"width": 1280, "height": 900})
    await opened(page, "admin?q=state:running")
    await expect(page.locator("body[data-live=live]")).to_be_attached()
    await page.get_by_label("Select this page").check()
    await page.locator("[data-act=stop]").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    problems["dialog"] = await judged(page)
    assert {name: found for name, found in problems.items() if found} == {}


async def test_every_page_can_be_used_twice_as_large_in_the_systems_colours_and_without_motion(
    page: Page,
) -> None:
    await page.emulate_media(forced_colors="active", reduced_motion="reduce")
    await page.set_viewport_size({"width": 640, "height": 450})  # 1280 by 900 at 200 %
    problems: dict[str, list[str]] = {}
    for name, path in PAGES.items():
        await opened(page, path)
        found: list[str] = await page.evaluate(EDGELESS) + await page.evaluate(MOVES)
        if await page.evaluate(SIDEWAYS) > 0:
            found.append("scrolls sideways")
        await page.keyboard.press("Tab")
        if not await page.evaluate(FOCUS):
            found.append("the focus is not seen")
        if found:
            problems[name] = found
    await page.emulate_media(forced_colors="none")
    assert problems == {}
