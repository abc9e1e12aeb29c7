"""What a person does in JupyterLab, as functions on a page."""

from __future__ import annotations

import re

from playwright.async_api import Locator, Page, Response, expect

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

    async def written() -> bool:
        await editor.fill(code)  # in place of what is there, should the cursor have gone away halfway
        return code.splitlines()[-1] in await editor.inner_text()

    await eventually(written, what="the cell takes the text (Lab moves the cursor while it starts)")
    await editor.press("Shift+Enter")
    await expect(cells).to_have_count(index + 2)
    return cells.nth(index).locator(".jp-Cell-outputArea")


async def save(page: Page, *, new: bool = False) -> None:
    """Press Ctrl+S, until the file is written. Of a notebook that the launcher made, Lab asks for the name, once: keep it."""

    def is_written(answer: Response) -> bool:
        return answer.request.method == "PUT" and "/api/contents/" in answer.url

    await shown(page).locator(".jp-Notebook").click(position={"x": 5, "y": 5})
    dialog = page.locator(".jp-Dialog")
    async with page.expect_response(is_written, timeout=SLOW):
        await page.keyboard.press("Control+s")
        if new:
            await dialog.locator("button.jp-mod-accept").click()
    await expect(dialog).to_have_count(0)
