"""axe-core finds nothing on any page, in both themes, wide and narrow; and nothing ever scrolls sideways."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, expect

from browser.pages.conftest import sign_in
from browser.pages.sample import PAGES, fill
from component.hub.pages_site import site

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

AXE = Path(__file__).parents[2] / "official" / "node_modules" / "axe-core" / "axe.min.js"
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations.map(
    (found) => `${found.id}: ${found.help}: ${found.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(" | ")}`
)"""


async def judged(page: Page) -> list[str]:
    """What axe has to say; its source comes in by the debugger, past the page's content policy."""
    await page.evaluate(AXE.read_text())
    found: list[str] = await page.evaluate(RUN)
    return found


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
async def test_axe_finds_nothing_on_any_page(
    tmp_path: Path, chromium: Chromium, scheme: str, width: int
) -> None:
    problems: dict[str, list[str]] = {}
    async with site(tmp_path, cull={"idle_s": 3600}) as hub:
        await fill(hub)
        context = await chromium.new_context(
            base_url=hub.url,
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
            viewport={"width": width, "height": 900},
        )
        page = await context.new_page()
        await sign_in(page, "root")
        for name, path in PAGES.items():
            await page.goto(f"/hub/{path}")
            await expect(page.locator("body[data-ready]")).to_be_attached()
            found = await judged(page)
            if await page.evaluate("document.documentElement.scrollWidth - innerWidth") > 0:
                found.append("scrolls sideways")
            if found:
                problems[name] = found
        await page.goto("/hub/admin?q=state:running")
        await expect(page.locator("body[data-live=live]")).to_be_attached()
        await page.get_by_label("Select this page").check()
        await page.locator("[data-act=stop]").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        problems |= {"dialog": found} if (found := await judged(page)) else {}
        await context.close()
    assert problems == {}
