"""What a person does in JupyterLab, as functions on a page."""

from __future__ import annotations

import re

from playwright.async_api import Locator, Page, expect

from support import eventually

SLOW = 60_000
"""Milliseconds that Lab may take for its first paint on a busy two-core machine."""


async def lab_is_open(page: Page) -> None:
    """The launcher or a document is there, and the splash has gone."""
    await page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=SLOW)
    await page.wait_for_selector(".jp-Launcher, .jp-NotebookPanel", timeout=SLOW)


async def new_notebook(page: Page) -> None:
    """Click Python 3 under Notebook in the launcher; its kernel is idle when this returns."""
    await page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    await kernel_is_idle(page)


async def kernel_is_idle(page: Page) -> None:
    """The status bar says so. The notebook's own indicator says idle before there is a kernel, and a cell that is
    run then is silently not run."""
    await page.get_by_role("button", name=re.compile(r"\| Idle$")).wait_for(timeout=SLOW)


def shown(page: Page) -> Locator:
    """The notebook panel that is in front."""
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")


async def run_cell(page: Page, code: str) -> Locator:
    """Type into the last cell and press Shift+Enter; the cell's output area."""
    cells = shown(page).locator(".jp-Notebook .jp-CodeCell")
    index = await cells.count() - 1
    cell = cells.nth(index)
    editor = cell.locator(".cm-content")

    async def focused() -> bool:
        await editor.click()
        return bool(await editor.evaluate("element => element === document.activeElement"))

    await eventually(focused, within_s=20, what="the cell takes the cursor (Lab moves it while it starts)")
    await page.keyboard.insert_text(code)
    await expect(editor).to_contain_text(code.splitlines()[-1])
    await page.keyboard.press("Shift+Enter")
    await expect(cells).to_have_count(index + 2)
    return cells.nth(index).locator(".jp-Cell-outputArea")


async def save(page: Page) -> None:
    """Press Ctrl+S; keep the name when Lab asks for one on the first save."""
    await shown(page).locator(".jp-Notebook").click(position={"x": 5, "y": 5})
    await page.keyboard.press("Control+s")
    dialog = page.locator(".jp-Dialog")
    if await _appears(dialog):
        await dialog.locator("button.jp-mod-accept").click()
        await dialog.wait_for(state="detached")


async def _appears(dialog: Locator) -> bool:
    from playwright.async_api import TimeoutError as NotThere

    try:
        await dialog.wait_for(timeout=3_000)
    except NotThere:
        return False
    return True
