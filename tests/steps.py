"""The steps of the main job, as a person does them in a browser. Each says what must have come of it."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from playwright.async_api import BrowserContext, Page, WebSocket, expect

import lab
import wire
from hubs import PASSWORD, Hub
from support import eventually

Shot = Callable[[Page, str], Awaitable[None]]
"""Writes a screenshot under a name."""


async def set_up(page: Page, hub: Hub, shot: Shot) -> None:
    """The one-time link asks for a name and a password, and works once."""
    link = hub.setup_link()
    await page.goto(link)
    await shot(page, "01-setup")
    await page.get_by_label(re.compile("name", re.IGNORECASE)).first.fill("ada")
    for field in await page.locator('input[type="password"]').all():
        await field.fill(PASSWORD)
    await page.locator('form button:not([type="button"])').first.click()
    await page.wait_for_url(re.compile(r"/hub/home"))
    await shot(page, "02-home")
    async with aiohttp.ClientSession() as stranger, stranger.get(link) as again:
        assert again.status in (403, 404, 410), "the link works twice"


async def sign_in(page: Page, url: str, name: str) -> None:
    """Through the form that `url` leads to, until home is shown."""
    await page.goto(url)
    await page.locator('input[name="username"]').fill(name)
    await page.locator('input[name="password"]').fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(r"/hub/home"))


async def sign_out_and_in(page: Page, hub: Hub, shot: Shot) -> None:
    """Out, and in again through the form."""
    await page.goto(f"{hub.url}/hub/logout")
    await page.goto(hub.url)
    await page.wait_for_url(re.compile(r"/hub/login"))
    await page.locator('input[name="username"]').fill("ada")
    await page.locator('input[name="password"]').fill(PASSWORD)
    await shot(page, "03-login")
    await page.locator('form button:not([type="button"])').first.click()
    await page.wait_for_url(re.compile(r"/hub/home"))


async def start_the_server(page: Page, shot: Shot) -> None:
    """Press Start; the progress page leads into JupyterLab."""
    await page.get_by_role("button", name=re.compile("start", re.IGNORECASE)).first.click()
    await page.wait_for_url(re.compile(r"/hub/spawn-pending|/user/ada/"))
    await shot(page, "04-progress")
    await page.wait_for_url(re.compile(r"/user/ada/lab"), timeout=lab.SLOW)
    await lab.lab_is_open(page)
    await shot(page, "05-lab")


async def work_in_a_notebook(page: Page, shot: Shot) -> None:
    """Results, pictures, input, rich data, and a loop that is interrupted."""
    await lab.new_notebook(page)
    await expect(await lab.run_cell(page, "1+1")).to_contain_text("2")

    plot = await lab.run_cell(page, "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()")
    await expect(plot.locator('img[src^="data:image/png"]')).to_be_visible(timeout=lab.SLOW)

    asked = await lab.run_cell(page, 'print("hello", input("who? "))')
    await asked.locator("input.jp-Stdin-input").fill("ann")
    await asked.locator("input.jp-Stdin-input").press("Enter")
    await expect(asked).to_contain_text("hello ann")

    await lab.run_cell(
        page,
        "import plotly.graph_objects as go\n"
        "figure = go.Figure(go.Bar(y=[2, 1]))\n"
        'display({"application/vnd.plotly.v1+json": figure.to_plotly_json(), "text/plain": "a figure"}, raw=True)',
    )
    await lab.kernel_is_idle(page)

    # It says that it runs: a kernel that has not come to the code yet, though it is busy, ignores an interrupt.
    loop = await lab.run_cell(page, 'print("begun", flush=True)\nwhile True: pass')
    await expect(loop).to_contain_text("begun")
    await lab.shown(page).locator('.jp-Notebook-ExecutionIndicator[data-status="busy"]').wait_for()
    await lab.shown(page).locator('[data-command="notebook:interrupt-kernel"]').first.click()
    await expect(loop).to_contain_text("KeyboardInterrupt")
    await shot(page, "06-notebook")


async def a_second_client_waits_for_input(page: Page, hub: Hub, token: str) -> None:
    """While a cell waits for input, another client's request is answered only after it."""
    asked = await lab.run_cell(page, 'answer = input("first? ")')
    await asked.locator("input.jp-Stdin-input").wait_for()
    async with wire.kernel_client(f"{hub.url}/user/ada/", token) as second:
        request = await second.send("execute_request", code="print('after', answer)")
        assert await second.reply_now(request) is None
        await asked.locator("input.jp-Stdin-input").fill("yes")
        await asked.locator("input.jp-Stdin-input").press("Enter")
        reply = await second.reply(request)
        assert reply["content"]["status"] == "ok"
        assert "after yes" in await second.stream_of(request)


async def a_second_page_sees_the_broadcast(page: Page, context: BrowserContext, hub: Hub) -> None:
    """Another page on the same notebook is on the same kernel and hears what it says."""
    await lab.save(page, new=True)
    frames: list[str] = []

    def listen(socket: WebSocket) -> None:
        def keep(frame: str | bytes) -> None:
            frames.append(frame if isinstance(frame, str) else frame.decode(errors="replace"))

        if "/channels" in socket.url:
            socket.on("framereceived", keep)

    other = await context.new_page()
    other.on("websocket", listen)
    await other.goto(f"{hub.url}/user/ada/lab/workspaces/second/tree/Untitled.ipynb")
    await lab.lab_is_open(other)
    await lab.kernel_is_idle(other)
    await lab.run_cell(page, 'print("heard" + "-everywhere")')
    await eventually(lambda: any("heard-everywhere" in frame for frame in frames))
    await other.close()


async def saved_outputs_survive_a_reload(page: Page, notebook: Path, shot: Shot) -> None:
    """Save, reload: the outputs are in the page, and the plotly figure is in the file."""
    await lab.save(page)
    await eventually(lambda: "heard-everywhere" in notebook.read_text())
    await page.reload()
    await lab.lab_is_open(page)
    await expect(lab.shown(page)).to_contain_text("hello ann", timeout=lab.SLOW)
    await expect(page.locator(".jp-DirListing-item", has_text="Untitled.ipynb")).to_be_visible()
    await expect(lab.shown(page).locator('img[src^="data:image/png"]').first).to_be_visible()
    outputs = [o for cell in json.loads(notebook.read_text())["cells"] for o in cell.get("outputs", [])]
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
    await shot(page, "07-reloaded")


async def use_a_terminal(page: Page, shot: Shot) -> None:
    """A terminal echoes."""
    heard: list[str] = []

    def listen(socket: WebSocket) -> None:
        if "/terminals/websocket/" in socket.url:
            socket.on("framereceived", lambda frame: heard.append(str(frame)))

    page.on("websocket", listen)
    card = page.locator('.jp-LauncherCard[data-category="Other"][title*="terminal" i]').first

    async def offered() -> bool:
        await page.keyboard.press("Control+Shift+l")
        return await card.is_visible()

    await eventually(offered, what="the launcher comes (Lab takes keys only once it has started)")
    await card.click()
    keys = page.locator(".jp-Terminal textarea.xterm-helper-textarea")
    await keys.wait_for(state="attached")
    await eventually(lambda: any("$" in frame or "#" in frame for frame in heard), what="a prompt")
    await keys.focus()
    await page.keyboard.type("echo him''alia\n")
    await eventually(lambda: "himalia" in "".join(heard).replace("him''alia", ""))
    await shot(page, "08-terminal")


async def stop_it_from_the_admin_list(page: Page, hub: Hub, shot: Shot) -> None:
    """The admin list shows the server; Stop stops it, and the pages say so."""
    await page.goto(f"{hub.url}/hub/admin")
    await expect(page.locator("body[data-ready][data-live=live]")).to_be_attached()
    row = page.locator("tr", has_text="ada").first
    await expect(row).to_contain_text(re.compile("running|ready", re.IGNORECASE))
    await shot(page, "09-admin")
    await row.get_by_role("button", name=re.compile("stop", re.IGNORECASE)).click()
    await expect(row).to_contain_text(re.compile("stopped", re.IGNORECASE), timeout=60_000)
    await shot(page, "10-admin-stopped")
    await page.goto(f"{hub.url}/user/ada/lab")
    await expect(page.locator("body")).to_contain_text(re.compile("not running", re.IGNORECASE))
    await shot(page, "11-not-running")
