"""A kernel whose process is stopped: JupyterLab says so in words, and takes it back when it goes on."""

from __future__ import annotations

import os
import re
import signal

import pytest
from playwright.async_api import BrowserContext, expect

import lab
from chromium import Watcher
from component.singleuser.conftest import TOKEN, Start, start

__all__ = ["start"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


async def test_lab_says_that_a_kernel_does_not_answer_and_that_it_does_again(
    start: Start, context: BrowserContext, watcher: Watcher
) -> None:
    server = await start(args=("--heartbeat", "2"))
    page = await context.new_page()
    await page.goto(f"{server.origin}/lab?token={TOKEN}")
    await lab.lab_is_open(page)
    await lab.new_notebook(page)
    area = await lab.run_cell(page, "import os; print(os.getpid())")
    await expect(area).to_have_text(re.compile(r"\d+"), timeout=lab.SLOW)
    pid = int((await area.inner_text()).strip())

    os.kill(pid, signal.SIGSTOP)

    words = page.get_by_text("The kernel of Untitled.ipynb does not answer: no heartbeat for 2 s")
    await expect(words).to_be_visible(timeout=lab.SLOW)
    await expect(page.get_by_role("button", name=re.compile(r"\| Starting$"))).to_be_visible()

    os.kill(pid, signal.SIGCONT)

    await expect(words).to_have_count(0, timeout=lab.SLOW)
    await lab.kernel_is_idle(page)
    again = await lab.run_cell(page, "print('here')")
    await expect(again).to_have_text("here", timeout=lab.SLOW)
    assert watcher.unexpected() == []
