"""Pages in the reader's language: chosen by the browser or on the page, and no text that was left out of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from browser.pages.conftest import sign_in
from browser.pages.sample import DOORS, PAGES, SETTINGS, fill
from component.hub.hub_site import PASSWORD
from component.hub.pages_site import site

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

UNMARKED = """() => {
  const data = "[translate=no], bdi, code, kbd, pre, script, style, noscript, template";
  const left = (text) => {
    let depth = 0, out = "";
    for (const sign of text) {
      if (sign === "⟦") depth += 1; else if (sign === "⟧") { depth -= 1; out += " "; } else if (!depth) out += sign;
    }
    return out.replace(/\\d+(\\.\\d+)?\\s?(d|h|min|s|GB|MB|GiB|M|G|%)(?![a-z])/g, "").replace(/UTC|JupyterLab|python3/g, "");
  };
  const wrong = [];
  let text = "";
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) { text += node.data; return; }
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    if (node.matches(data)) { text += " "; return; }
    for (const name of ["title", "aria-label", "placeholder", "alt", "data-over", "data-label", "data-ask"]) {
      const value = node.getAttribute(name);
      if (value && /[a-z]{2}/i.test(left(value))) wrong.push(`${node.localName} ${name}: ${value}`);
    }
    text += "\\n";
    node.childNodes.forEach(walk);
    text += "\\n";
  };
  walk(document.body);
  for (const line of left(text).split("\\n")) if (/[a-z]{2}/i.test(line)) wrong.push(line.trim());
  const title = left(document.title).replace("· Himalia", "").trim(), names = [...document.querySelectorAll("h1 bdi, [translate=no]")];
  if (/[a-z]{2}/i.test(title) && !names.some((name) => name.textContent.includes(title))) wrong.push(document.title);
  return wrong;
}"""


async def test_no_text_of_any_page_is_left_out_of_translation(tmp_path: Path, chromium: Chromium) -> None:
    found: dict[str, list[str]] = {}
    async with site(tmp_path, **SETTINGS, pages={"languages": ["en", "qps-ploc"]}) as hub:
        await fill(hub)
        context = await chromium.new_context(base_url=hub.url, locale="qps-ploc")
        context.set_default_timeout(60_000)
        page = await context.new_page()
        for name, path in PAGES.items():
            if name not in DOORS and page.url.endswith("/hub/sign-up"):
                await page.goto("/hub/login")
                await page.locator("[name=username]").fill("root")  # its label is in no language
                await page.locator("[name=password]").fill(PASSWORD)
                await page.keyboard.press("Enter")
                await page.wait_for_url("**/hub/home")
            await page.goto(f"/hub/{path}")
            await expect(page.locator("body")).to_have_attribute("data-ready", "yes")
            if left := await page.evaluate(UNMARKED):
                found[name] = left
        await context.close()

    assert found == {}


async def test_the_language_chosen_on_a_page_stays_and_wins_over_the_browsers(
    tmp_path: Path, chromium: Chromium
) -> None:
    async with site(tmp_path) as hub:
        await hub.person("ann")
        context = await chromium.new_context(base_url=hub.url, locale="de-AT")
        context.set_default_timeout(60_000)
        page = await context.new_page()
        await page.goto("/hub/login")
        await expect(page.get_by_role("heading", name="Anmelden")).to_be_visible()
        await page.get_by_role("button", name="English").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await sign_in(page, "ann")
        await page.goto("/hub/home")

        await expect(page.get_by_role("heading", name="Your servers")).to_be_visible()
        assert await page.locator("html").get_attribute("lang") == "en"
        await page.get_by_role("button", name="Deutsch").click()
        await expect(page.get_by_role("heading", name="Ihre Server")).to_be_visible()
        await context.close()
