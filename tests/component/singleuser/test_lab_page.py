"""JupyterLab in a real Chromium, alone and behind the small hub: no console error, no failed request."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

import lab
from chromium import FLAGS
from support import eventually

TOKEN = "open-sesame"
CUT_OFF = re.compile(r"^failed: \S+ \S+/api/\S+ net::ERR_ABORTED$")
"""A call that a page made as it went: Lab saves its layout while it changes, and asks what runs every few seconds."""
CARD = ".jp-LauncherCard[data-category='Notebook'][title*='Python 3']"

pytestmark = pytest.mark.browser


def short(url: str) -> str:
    """The path below the contents API, without the query."""
    return url.partition("?")[0].rpartition("/api/contents/")[2]


def after(seen: list[str], first: str) -> list[str]:
    """What came after `first`; nothing if it did not come."""
    return seen[seen.index(first) :] if first in seen else []


async def layout_has(page: Page, origin: str, *names: str) -> bool:
    """Whether the saved layout would bring all of these back."""
    answer = await page.request.get(f"{origin}/lab/api/workspaces")
    text = await answer.text()
    assert answer.ok, text
    return all(name in text for name in names)


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page that writes down everything that went wrong, in `page.problems`."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", headless=False, args=["--headless=new", *FLAGS]
        )
        page = await browser.new_page(viewport={"width": 1300, "height": 850})
        problems: list[str] = []
        page.set_default_timeout(lab.SLOW)
        page.problems = problems  # type: ignore[attr-defined]
        answered: list[str] = []
        page.answered = answered  # type: ignore[attr-defined]
        page.on("requestfinished", lambda r: answered.append(f"{r.method} {short(r.url)}"))
        page.on("console", lambda m: problems.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(f"page: {error}"))
        page.on("requestfailed", lambda r: problems.append(f"failed: {r.method} {r.url} {r.failure}"))
        page.on(
            "response",
            lambda a: problems.append(f"{a.status}: {a.request.method} {a.url}") if a.status >= 400 else None,
        )
        yield page
        await browser.close()


async def test_lab_opens_edits_a_text_and_saves_a_notebook_without_a_single_error(
    server: Any, page: Any
) -> None:
    (server.root / "hello.txt").write_text("hello\n")
    await page.goto(f"{server.origin}/lab?token={TOKEN}")
    await page.wait_for_selector(f"{CARD}:visible")
    assert "token" not in page.url

    await lab.new_notebook(page)
    await expect(await lab.run_cell(page, "6*7")).to_contain_text("42", timeout=lab.SLOW)
    await page.keyboard.press("Control+s")
    await page.click(".jp-Dialog button:has-text('Rename and Save')")
    saved = server.root / "Untitled.ipynb"
    await eventually(lambda: saved.exists() and json.loads(saved.read_text())["cells"])
    await eventually(lambda: json.loads(saved.read_text())["cells"][0]["outputs"])

    await page.dblclick("li.jp-DirListing-item:has-text('hello.txt')")
    await page.click(".jp-FileEditor .cm-content")
    await page.keyboard.press("Control+End")
    await page.keyboard.type("world")
    await page.keyboard.press("Control+s")
    await eventually(lambda: (server.root / "hello.txt").read_text() == "hello\nworld")

    # Lab keeps a checkpoint after the save and lists it: a reload in between would cut these requests off.
    await eventually(
        lambda: "GET hello.txt/checkpoints" in after(page.answered, "POST hello.txt/checkpoints")
    )
    # The layout is saved a moment after each change: a reload before that brings back the one before.
    await eventually(lambda: layout_has(page, server.origin, "Untitled.ipynb", "hello.txt"))
    before = len(page.problems)
    await page.reload()
    page.problems[before:] = [one for one in page.problems[before:] if not CUT_OFF.search(one)]

    # Lab brings back the open tabs first, and then which of them was in front.
    async def shows_its_output() -> bool:
        await page.click("li.lm-TabBar-tab:has-text('Untitled.ipynb')")
        return bool(await page.is_visible(".jp-OutputArea-output:has-text('42')"))

    await eventually(shows_its_output, within_s=60)
    await page.wait_for_selector("li.jp-DirListing-item:has-text('hello.txt')")
    await page.screenshot(path=server.log.with_name("lab.png"))
    assert page.problems == []


async def test_lab_opens_behind_a_hub_and_offers_the_way_back(start: Any, hub: Any, page: Any) -> None:
    # Two origins, as with subdomains: there is no proxy in front of this test.
    callback = {"JUPYTERHUB_OAUTH_CALLBACK_URL": "{origin}/user/ada/oauth_callback"}
    server = await start(base="/user/ada/", environ=hub.environ() | callback | {"JUPYTERHUB_HOST": hub.url})

    await page.goto(f"{server.origin}/user/ada/")
    await page.wait_for_selector(f"{CARD}:visible")

    await page.click(".lm-MenuBar-item:has-text('File')")
    await page.wait_for_selector(".lm-Menu-item:has-text('Hub Control Panel')")
    assert page.url.startswith(f"{server.origin}/user/ada/lab")
    assert page.problems == []
