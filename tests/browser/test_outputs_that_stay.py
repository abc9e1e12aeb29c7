"""The tab is closed in the middle of a run: who opens the notebook later finds all that came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, expect

import lab
from chromium import Watcher
from component.singleuser.conftest import TOKEN, Start, start
from support import eventually

__all__ = ["start"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

FIRST = (
    "import pathlib, time\nprint('line', 1)\n"
    "while not pathlib.Path('go').exists(): time.sleep(0.05)\nprint('line', 2)"
)


def text_on_disk(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    return "".join("".join(one.get("text", "")) for cell in cells for one in cell.get("outputs", []))


async def test_a_tab_closed_in_the_middle_of_a_run_loses_nothing(
    start: Start, context: BrowserContext, watcher: Watcher
) -> None:
    server = await start()
    page = await context.new_page()
    await page.goto(f"{server.origin}/lab?token={TOKEN}")
    await lab.lab_is_open(page)
    await lab.new_notebook(page)
    await lab.save(page, new=True)
    running = await lab.run_cell(page, FIRST)
    await lab.run_cell(page, "print('the', 'next')")
    await expect(running).to_contain_text("line 1", timeout=lab.SLOW)

    await page.close()
    (server.root / "go").touch()

    async def all_is_over() -> bool:
        _, kernels, _ = await server.ask("GET", "api/kernels")
        return [(one["execution_state"], one["connections"]) for one in kernels] == [("idle", 0)]

    await eventually(all_is_over, within_s=60)
    again = await context.new_page()
    await again.goto(f"{server.origin}/lab/tree/Untitled.ipynb")
    await lab.lab_is_open(again)
    for text in ("line 1\nline 2", "the next"):
        await expect(lab.shown(again)).to_contain_text(text, timeout=lab.SLOW, use_inner_text=True)
    await lab.kernel_is_idle(again)
    cells = lab.shown(again).locator(".jp-CodeCell")
    before = await cells.count()
    await cells.last.locator(".cm-content").click()
    await lab.shown(again).locator('[data-command="notebook:insert-cell-below"]').first.click()
    await expect(cells).to_have_count(before + 1)
    await lab.run_cell(again, "print('and', 'on')")
    await lab.save(again)
    await eventually(lambda: "and on" in text_on_disk(server.root / "Untitled.ipynb"), within_s=60)

    assert text_on_disk(server.root / "Untitled.ipynb") == "line 1\nline 2\nthe next\nand on\n"
    await expect(again.locator(".jp-Dialog")).to_have_count(0)
    assert watcher.unexpected() == []
