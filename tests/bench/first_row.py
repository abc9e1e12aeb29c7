"""When a person sees the first row of a long list: in Chromium, from the navigation to the frame that shows it.

For `admin.py`. "Cold" is a browser that has nothing of the hub but its sign-in, "warm" one that shows the page again.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import Browser, Page, async_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.hub import PASSWORD as ANY
from bench.hub import Peer, say
from chromium import FLAGS
from hubs import PASSWORD

if TYPE_CHECKING:
    from playwright.async_api import StorageState

WAIT_MS = 60_000
ROW = {"himalia": "#list tbody tr[data-row]", "jupyterhub": "tr.user-row"}
WHEN_SEEN = """selector => {
  const look = () => {
    if (document.querySelector(selector)?.getBoundingClientRect().height) window.seenAt = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
SEEN = """new Promise(done => {
  const look = () => window.seenAt ? done(window.seenAt) : requestAnimationFrame(look);
  look();
})"""
SENT = "performance.getEntries().reduce((sum, one) => sum + (one.transferSize || 0), 0)"


async def first_rows(peers: list[Peer], rounds: int) -> None:
    """In turn, so that other work on the machine meets both."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        signed_in = [await _sign_in(browser, peer) for peer in peers]
        took = [
            [await _visits(browser, peer, state) for peer, state in zip(peers, signed_in, strict=True)]
            for _ in range(rounds + 1)
        ][1:]
        await browser.close()
    for at, what in enumerate(("nothing in the cache", "once more")):
        ours, theirs = ([turn[peer][at][0] for turn in took] for peer in range(2))
        say(f"first row seen, {what}, median", statistics.median(ours), statistics.median(theirs), "ms")
        say("  minimum", min(ours), min(theirs), "ms")
        say("  kilobytes sent", *(took[0][peer][at][1] / 1000 for peer in range(2)), "kB")


async def _sign_in(browser: Browser, peer: Peer) -> StorageState:
    context = await browser.new_context(base_url=f"http://127.0.0.1:{peer.port}")
    page = await context.new_page()
    await page.goto("/hub/login", timeout=WAIT_MS)
    await page.locator("input[name=username]").fill("root")
    await page.locator("input[name=password]").fill(ANY if peer.name == "jupyterhub" else PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: "/login" not in url, timeout=WAIT_MS)
    state = await context.storage_state()
    await context.close()
    return state


async def _visits(browser: Browser, peer: Peer, state: StorageState) -> list[tuple[float, float]]:
    """(milliseconds, bytes) of a first visit and of a second one."""
    context = await browser.new_context(base_url=f"http://127.0.0.1:{peer.port}", storage_state=state)
    page = await context.new_page()
    await page.add_init_script(f"({WHEN_SEEN})({ROW[peer.name]!r})")
    took = [await _visit(page) for _ in range(2)]
    await context.close()
    return took


async def _visit(page: Page) -> tuple[float, float]:
    await page.goto("/hub/admin", timeout=WAIT_MS, wait_until="commit")
    at = float(await page.evaluate(SEEN))
    await page.wait_for_load_state("load", timeout=WAIT_MS)
    sent = float(await page.evaluate(SENT))
    await page.goto("about:blank")
    return at, sent
