"""A notebook and files that somebody else made, opened in JupyterLab: nothing in them acts in the person's name."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import BrowserContext, Page, expect

import lab
from chromium import Watcher
from component.singleuser.conftest import TOKEN, Running, Start, start

__all__ = ["start"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

RUN = "document.title='owned';window.owned=1"
ARGS = json.dumps({"path": "victim.txt"})
HOSTILE = f"""<p>bait</p>
<button class="trap" data-commandlinker-command="filebrowser:delete" data-commandlinker-args='{ARGS}'>one</button>
<button class="trap" data-commandlinker-command="apputils:change-theme"
 data-commandlinker-args='{{"theme": "JupyterLab Dark"}}'>two</button>
<a class="trap" href="javascript:{RUN}">three</a>
<img src="nowhere.png" onerror="{RUN}"><svg onload="{RUN}"><script>{RUN}</script></svg>
<script>{RUN}</script><iframe srcdoc="<script>parent.owned=1</script>"></iframe>
<form action="/api/shutdown" method="post"><input class="trap" type="submit" value="four"></form>"""


def cell(kind: str, source: str, outputs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    base = {"cell_type": kind, "id": f"{kind}{len(source)}", "source": source, "metadata": {"trusted": True}}
    return base | ({"outputs": outputs, "execution_count": 1} if outputs is not None else {})


def shows(mime: str, data: str) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {mime: data, "text/plain": "x"}}


NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "cells": [
        cell("markdown", HOSTILE),
        cell(
            "markdown",
            f'[bait](javascript:{RUN}) ![x](x"onerror="{RUN})\n\n$\\href{{javascript:{RUN}}}{{x}}$',
        ),
        cell(
            "code",
            "",
            [
                shows("text/html", HOSTILE),
                shows("text/markdown", HOSTILE),
                shows(
                    "image/svg+xml",
                    f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{RUN}\"><script>{RUN}</script></svg>",
                ),
                shows("application/javascript", RUN),
                shows("text/latex", f"$\\href{{javascript:{RUN}}}{{x}}$"),
            ],
        ),
    ],
}


async def nothing_happened(server: Running, page: Page) -> None:
    assert await page.evaluate("window.owned") is None
    assert "owned" not in await page.title()
    assert await page.locator("body").get_attribute("data-jp-theme-light") == "true"
    assert (server.root / "victim.txt").read_text() == "alive"
    assert (await server.ask("GET", "api/status"))[0] == 200


async def test_a_notebook_that_is_not_trusted_acts_neither_when_it_is_opened_nor_unasked_when_it_is_clicked(
    start: Start, context: BrowserContext, watcher: Watcher
) -> None:
    """CVE-2026-42557, CVE-2026-40171: commands named in saved outputs; CVE-2024-22420: scripts in Markdown."""
    watcher.expected.append("nowhere.png|x%22onerror|/x$")
    server = await start()
    (server.root / "victim.txt").write_text("alive")
    (server.root / "bait.ipynb").write_text(json.dumps(NOTEBOOK))
    page = await context.new_page()
    await page.goto(f"{server.origin}/lab/tree/bait.ipynb?token={TOKEN}")
    await lab.lab_is_open(page)
    await lab.kernel_is_idle(page)
    await expect(lab.shown(page).get_by_text("bait", exact=True).first).to_be_visible(timeout=lab.SLOW)

    commands = lab.shown(page).locator("[data-commandlinker-command]")
    await expect(commands).to_have_count(6)  # all that can be drawn is
    assert await lab.shown(page).locator("[onerror], [onload], .jp-Notebook script").count() == 0
    assert await lab.shown(page).locator("a[href^='javascript:']").count() == 0
    dialog = page.locator(".jp-Dialog")
    for number in range(await commands.count()):
        await commands.nth(number).evaluate("button => button.click()")
        await expect(dialog).to_contain_text("This document is not trusted", timeout=lab.SLOW)
        await dialog.get_by_role("button", name="Cancel").click()
        await expect(dialog).to_have_count(0)
    others = lab.shown(page).locator(".trap:not([data-commandlinker-command])")
    await others.evaluate_all("traps => traps.forEach(one => one.click())")
    await expect(await lab.run_cell(page, "print(6 * 7)")).to_contain_text("42", timeout=lab.SLOW)

    await nothing_happened(server, page)


@pytest.mark.parametrize(
    ("name", "viewer", "shown"),
    [
        ("bait.svg", "Image", ".jp-ImageViewer img"),
        ("bait.html", "HTML Viewer", ".jp-HTMLViewer iframe"),
        ("bait.md", "Editor", ".jp-MarkdownViewer .trap"),
    ],
)
async def test_a_file_that_is_opened_in_its_viewer_runs_nothing(
    start: Start, context: BrowserContext, watcher: Watcher, name: str, viewer: str, shown: str
) -> None:
    """CVE-2026-73415, CVE-2026-73417: the image viewer and the preview of Markdown."""
    watcher.expected.append("nowhere.png")
    server = await start()
    (server.root / "victim.txt").write_text("alive")
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{RUN}\"><script>{RUN}</script><text y='20'>bait</text></svg>"
    (server.root / name).write_text(svg if name.endswith("svg") else HOSTILE)
    page = await context.new_page()

    await page.goto(f"{server.origin}/lab/tree/{name}?factory={quote(viewer)}&token={TOKEN}")
    await page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=lab.SLOW)
    if name == "bait.md":
        await page.locator(".jp-FileEditor .cm-content").click(button="right")
        await page.get_by_text("Show Markdown Preview").click()
    await page.locator(shown).first.wait_for(timeout=lab.SLOW)
    traps = page.locator(".jp-MarkdownViewer .trap")
    await traps.evaluate_all("traps => traps.forEach(one => one.click())")

    await nothing_happened(server, page)
