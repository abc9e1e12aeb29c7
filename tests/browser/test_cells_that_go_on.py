"""A notebook is opened again while its cells run: they are seen as running, and go on filling by themselves."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import BrowserContext, Page, expect

import lab
from chromium import Watcher
from component.singleuser.conftest import TOKEN, Running, Start, start
from support import eventually

__all__ = ["start"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

STEPS = """import pathlib, time
for number in range(1, 5):
    while not pathlib.Path(f'go{number}').exists(): time.sleep(0.05)
    print('line', number)"""


async def begun(server: Running, context: BrowserContext, *code: str) -> Page:
    """A saved notebook, the first of its cells at line 1, the others waiting."""
    page = await context.new_page()
    await page.goto(f"{server.origin}/lab?token={TOKEN}")
    await lab.lab_is_open(page)
    await lab.new_notebook(page)
    await lab.save(page, new=True)
    (server.root / "go1").touch()
    areas = [await lab.run_cell(page, one) for one in code]
    await expect(areas[0]).to_contain_text("line 1", timeout=lab.SLOW)
    return page


def on_disk(server: Running) -> list[str]:
    cells = json.loads((server.root / "Untitled.ipynb").read_text())["cells"]
    return ["".join("".join(one.get("text", "")) for one in cell.get("outputs", [])) for cell in cells]


async def prompt(page: Page, number: int, text: str) -> None:
    cell = lab.shown(page).locator(".jp-CodeCell").nth(number)
    await expect(cell.locator(".jp-InputPrompt")).to_have_text(text, timeout=lab.SLOW)


async def output(page: Page, number: int, text: str) -> None:
    cell = lab.shown(page).locator(".jp-CodeCell").nth(number)
    await expect(cell.locator(".jp-Cell-outputArea")).to_have_text(
        text, timeout=lab.SLOW, use_inner_text=True
    )


async def kernel_is_there(server: Running) -> None:
    """A page is connected to the one kernel, which waits for work."""

    async def idle() -> bool:
        _, kernels, _ = await server.ask("GET", "api/kernels")
        return [(one["execution_state"], one["connections"]) for one in kernels] == [("idle", 1)]

    await eventually(idle, within_s=60)


async def test_running_and_queued_cells_go_on_filling_in_the_page_that_is_opened(
    start: Start, context: BrowserContext, watcher: Watcher
) -> None:
    server = await start()
    page = await begun(server, context, STEPS, "print('second')", "print('third'); 7 * 6")
    await page.close()
    (server.root / "go2").touch()

    again = await context.new_page()
    await again.goto(f"{server.origin}/lab/tree/Untitled.ipynb")
    await lab.lab_is_open(again)
    await output(again, 0, "line 1\nline 2\n")
    for number in range(3):
        await prompt(again, number, "[*]:")
    (server.root / "go3").touch()
    await output(again, 0, "line 1\nline 2\nline 3\n")
    (server.root / "go4").touch()

    await output(again, 0, "line 1\nline 2\nline 3\nline 4\n")
    await output(again, 1, "second\n")
    await output(again, 2, "third\n[3]:\n42")
    for number in range(3):
        await prompt(again, number, f"[{number + 1}]:")
    await lab.save(again)
    await eventually(
        lambda: on_disk(server)[:2] == ["line 1\nline 2\nline 3\nline 4\n", "second\n"], within_s=60
    )
    await expect(again.locator(".jp-Dialog")).to_have_count(0)
    assert watcher.unexpected() == []


SHOWS = """from IPython.display import display
print('before')
shown = display('at 0', display_id=True)"""
CHANGES = """import pathlib, time
print('line 1')
while not pathlib.Path('go2').exists(): time.sleep(0.05)
shown.update('at 1')"""


async def test_a_later_cell_changes_a_display_of_one_that_had_ended_when_the_page_was_opened(
    start: Start, context: BrowserContext, watcher: Watcher
) -> None:
    server = await start()
    page = await context.new_page()
    await page.goto(f"{server.origin}/lab?token={TOKEN}")
    await lab.lab_is_open(page)
    await lab.new_notebook(page)
    await lab.save(page, new=True)
    await expect(await lab.run_cell(page, SHOWS)).to_contain_text("at 0", timeout=lab.SLOW)
    await expect(await lab.run_cell(page, CHANGES)).to_contain_text("line 1", timeout=lab.SLOW)
    await page.close()

    again = await context.new_page()
    await again.goto(f"{server.origin}/lab/tree/Untitled.ipynb")
    await lab.lab_is_open(again)
    await output(again, 0, "before\n'at 0'")
    await prompt(again, 1, "[*]:")
    (server.root / "go2").touch()

    await output(again, 0, "before\n'at 1'")
    await prompt(again, 1, "[2]:")
    assert watcher.unexpected() == []


ASKS = """from IPython.display import display
shown = display('at 0', display_id=True)
name = input('who? ')
shown.update('at 1')
print('hello', name)"""


async def test_a_question_is_asked_again_and_displays_change_in_jupyter_notebook(
    start: Start, context: BrowserContext, watcher: Watcher
) -> None:
    watcher.expected.append(r"reading 'schema'")  # a fault of Jupyter Notebook's page, under any server
    server = await start(args=("--notebook",))
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    empty = {"nbformat": 4, "nbformat_minor": 5, "metadata": python, "cells": []}
    (server.root / "Untitled.ipynb").write_text(json.dumps(empty))
    page = await context.new_page()
    await page.goto(f"{server.origin}/notebooks/Untitled.ipynb?token={TOKEN}")
    await kernel_is_there(server)
    area = await lab.run_cell(page, ASKS)
    await expect(area.locator("input")).to_be_visible(timeout=lab.SLOW)
    await page.close()

    again = await context.new_page()
    await again.goto(f"{server.origin}/notebooks/Untitled.ipynb")
    answer = lab.shown(again).locator(".jp-CodeCell").first.locator(".jp-Stdin input")
    await answer.fill("Ada", timeout=lab.SLOW)
    await prompt(again, 0, "[*]:")
    await answer.press("Enter")

    await output(again, 0, "'at 1'\nwho?  Ada\nhello Ada\n")
    await prompt(again, 0, "[1]:")
    assert watcher.unexpected() == []
