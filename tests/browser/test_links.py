"""A person opens a link: steps, Lab with the file, a cell that uses the repository's package, and the end."""

from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

import lab
from chromium import Watcher
from hubs import PASSWORD, Hub
from launches import config
from repositories import Repository, git_daemon, link

NOTEBOOK = """{"cells": [{"cell_type": "code", "id": "a1", "metadata": {}, "outputs": [], "execution_count": null,
"source": "import tabulate; print('rows', len(tabulate.tabulate([[1], [2]]).splitlines()))"}],
"metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
"nbformat": 4, "nbformat_minor": 5}"""


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    notes = Repository(tmp_path / "repositories", "field-notes")
    notes.commit({"requirements.txt": "tabulate", "index.ipynb": NOTEBOOK})
    async with git_daemon(notes.bare.parent) as base:
        yield base + notes.name


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    times = ("max_age_s = 1200", "longest_s = 2400")
    hub = Hub(tmp_path / "data", config=config(tmp_path / "ephemeral", *times))
    hub.homes = tmp_path  # sessions lie in one folder of it, people in another
    hub.add_user("ann")
    await hub.start()
    yield hub
    hub.clean_up()


async def sign_in(page: Page) -> None:
    await page.locator('input[name="username"]').fill("ann")
    await page.locator('input[name="password"]').fill(PASSWORD)
    await page.locator('form button:not([type="button"])').first.click()


async def test_a_link_opens_lab_a_second_visit_is_back_at_once_and_the_work_is_kept_in_an_account(
    hub: Hub,
    context: BrowserContext,
    watcher: Watcher,
    url: str,
    shot: Callable[[Page, str], Awaitable[None]],
) -> None:
    page = await context.new_page()
    address = f"{hub.url}/v2/{link(url, query='labpath=index.ipynb')}"

    await page.goto(address)
    await expect(page.get_by_role("heading", name=re.compile("Opening"))).to_be_visible()
    await shot(page, "links-1-opening")
    await page.wait_for_url(re.compile(r"/user/field-notes-\w+/lab/tree/index\.ipynb"), timeout=lab.SLOW)
    await lab.lab_is_open(page)
    await lab.kernel_is_idle(page)
    await lab.shown(page).locator(".jp-Cell").first.click()
    await page.keyboard.press("Shift+Enter")
    await expect(lab.shown(page).locator(".jp-OutputArea-output").first).to_contain_text(
        "rows 4", timeout=lab.SLOW
    )
    await expect(page.locator(".himalia-stop")).to_have_text(
        re.compile(r"Stops in \d+ min"), timeout=lab.SLOW
    )
    await shot(page, "links-2-lab")
    there = page.url

    await page.goto(address)
    await page.wait_for_url(there, timeout=lab.SLOW)
    await lab.lab_is_open(page)

    await page.goto(f"{hub.url}/hub/home")
    await expect(page.get_by_role("heading", name="Your session")).to_be_visible()
    await expect(page.get_by_text("unless used")).to_be_visible()
    ends = page.locator(".facts time[data-until]")
    await expect(ends).to_have_text([re.compile(r"in \d min|in 10 min"), re.compile(r"in (20|1\d) min")])
    await shot(page, "links-3-session")
    await page.get_by_role("button", name=re.compile("^Keep alive")).click()
    # An hour was asked for; it is forty minutes old at the most.
    await expect(ends).to_have_text([re.compile(r"in (40|3\d) min")])
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name=re.compile("^Download")).click()
    with zipfile.ZipFile(await (await downloading.value).path()) as archive:
        assert "field-notes/index.ipynb" in archive.namelist()
    await page.get_by_role("button", name=re.compile("^Keep this")).click()
    await sign_in(page)
    await expect(page.get_by_role("heading", name=re.compile("Keep .*field-notes"))).to_be_visible()
    await shot(page, "links-3-keep")
    await page.get_by_role("button", name="Keep it").click()
    await expect(page.get_by_role("heading", name="Your work is kept")).to_be_visible(timeout=lab.SLOW)
    await shot(page, "links-3-kept")
    (kept,) = (hub.data / "homes").glob("*/field-notes/index.ipynb")
    assert "tabulate" in kept.read_text()
    await page.get_by_role("link", name="Open the folder").click()
    await page.wait_for_url(re.compile(r"/user/ann/lab"), timeout=lab.SLOW)
    await lab.lab_is_open(page)
    watcher.expected += [r"^(403|404|410|424|502|503) (GET|POST|PUT|DELETE) ", "WebSocket"]
    assert watcher.unexpected() == []


async def test_who_is_signed_in_is_asked_first_and_stays_who_they_are(
    hub: Hub,
    context: BrowserContext,
    watcher: Watcher,
    url: str,
    shot: Callable[[Page, str], Awaitable[None]],
) -> None:
    """CVE-2026-44454: a link alone made something that ran."""
    page = await context.new_page()
    await page.goto(f"{hub.url}/hub/login")
    await sign_in(page)
    await page.wait_for_url(re.compile("/hub/home"))

    await page.goto(f"{hub.url}/v2/{link(url, query='labpath=index.ipynb')}")
    await expect(page.get_by_role("heading", name=re.compile("Open .*field-notes"))).to_be_visible()
    await expect(page.locator("dl")).to_contain_text(url)
    await expect(page.locator("dl")).to_contain_text(re.compile("Commit *[0-9a-f]{40}"))
    await shot(page, "links-4-ask")
    await page.get_by_role("button", name="Open it").click()
    # The session is not theirs but shared with them, so that nothing in it acts as them.
    await page.get_by_role("button", name=re.compile("allow|open|continue", re.IGNORECASE)).click()
    await page.wait_for_url(re.compile(r"/user/field-notes-\w+/lab/tree/index\.ipynb"), timeout=lab.SLOW)
    await lab.lab_is_open(page)
    await page.goto(f"{hub.url}/hub/home")
    await expect(page.get_by_role("link", name="ann")).to_be_visible()


async def test_a_link_that_cannot_be_opened_says_why_and_what_to_do(
    hub: Hub,
    context: BrowserContext,
    watcher: Watcher,
    url: str,
    shot: Callable[[Page, str], Awaitable[None]],
) -> None:
    page = await context.new_page()
    await page.goto(f"{hub.url}/v2/{link(url, 'no-such-branch')}")
    await expect(page.get_by_role("heading", name=re.compile("could not be opened"))).to_be_visible(
        timeout=lab.SLOW
    )
    await expect(page.get_by_text("no branch or tag 'no-such-branch'")).to_be_visible()
    await shot(page, "links-5-failed")


async def test_a_page_makes_the_link_and_says_what_is_wrong(hub: Hub, context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto(f"{hub.url}/links")
    await page.get_by_label("Where the repository is").select_option("GitLab")
    await page.get_by_label("Repository", exact=True).fill("nothing")
    await page.get_by_role("button", name="Make it").click()
    await expect(page.get_by_role("alert")).to_contain_text("GROUP%2FPROJECT")
    await page.get_by_label("Repository", exact=True).fill("lab/field-notes")
    await page.get_by_label("File to open").fill("week 1/index.ipynb")
    await page.get_by_role("button", name="Make it").click()
    made = f"{hub.url}/v2/gl/lab%2Ffield-notes/HEAD?labpath=week%201%2Findex.ipynb"
    await expect(page.locator("#address")).to_have_text(made)
    await expect(page.get_by_role("link", name="Open it")).to_have_attribute("href", made)
