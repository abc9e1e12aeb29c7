"""A home without room: safe mode opens in it and says so; and what the page of a deletion promises holds afterwards."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

import lab
from chromium import Watcher
from hubs import PASSWORD, PATIENT, Client, Hub, client
from steps import Shot
from support import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path / "data", config=f"[servers]\n{PATIENT}")
    hub.add_user("root", admin=True)
    hub.add_user("ada")
    yield hub
    hub.clean_up()


@pytest.fixture
def full_home(hub: Hub) -> Iterator[Path]:
    """Ada's home on a disk of its own, with her file and not a byte more."""
    home = hub.data / "homes" / "ada"
    home.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "full", str(home)], check=True)
    (home / "thesis.txt").write_text("precious")
    with pytest.raises(OSError, match="No space left"), (home / "old.log").open("wb") as filler:
        while True:
            filler.write(b"x" * 4096)
            filler.flush()
    yield home
    subprocess.run(["umount", "-l", str(home)], check=True)


async def signed_in(page: Page, hub: Hub, name: str) -> None:
    await page.goto(hub.url)
    await page.locator('input[name="username"]').fill(name)
    await page.locator('input[name="password"]').fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(r"/hub/home"))


async def token(root: Client, name: str) -> str:
    status, made = await root.call("POST", f"/users/{name}/tokens", json={})
    assert status == 201, made
    return str(made["token"])


async def start_safely(hub: Hub, root: Client) -> None:
    headers = {**root.headers, "X-Himalia-Safe-Mode": "1"}
    async with root.session.post(f"{hub.api}/users/ada/server", headers=headers) as answer:
        assert answer.status in (201, 202), await answer.text()

    async def ready() -> bool:
        return bool((await root.server("ada"))["ready"])

    await eventually(ready, within_s=60, what="ada's server is ready")


async def test_safe_mode_opens_a_full_home_and_a_deletion_does_what_its_page_says(
    hub: Hub, full_home: Path, context: BrowserContext, watcher: Watcher, shot: Shot
) -> None:
    await hub.start()
    async with client(hub, hub.token("root")) as root:
        await start_safely(hub, root)
        await look_into_lab(context, hub, shot)
        await delete_ada(context, hub, root)
        assert full_home.joinpath("thesis.txt").read_text() == "precious"
    assert watcher.unexpected() == []
    await hub.stop()


async def look_into_lab(context: BrowserContext, hub: Hub, shot: Shot) -> None:
    """The banner, and the file browser with a file that opens."""
    page = await context.new_page()
    await signed_in(page, hub, "ada")
    await expect(page.get_by_role("article")).to_contain_text("Safe mode")
    await page.goto(f"{hub.url}/user/ada/lab")
    await lab.lab_is_open(page)
    told = page.get_by_role("region", name="Announcements of the hub")
    await expect(told).to_contain_text(
        "this server has a home of its own, without your settings", timeout=lab.SLOW
    )
    await page.locator(".jp-DirListing-item", has_text="thesis.txt").dblclick()
    await expect(page.locator(".jp-FileEditor .cm-content")).to_have_text("precious", timeout=lab.SLOW)
    await expect(page.get_by_role("dialog")).to_have_count(0)

    async def no_higher_than_its_text() -> bool:
        return (await told.bounding_box() or {"height": 999})["height"] < 100

    await eventually(no_higher_than_its_text, within_s=30)
    await shot(page, "lab-safe-mode")
    await page.close()


async def delete_ada(context: BrowserContext, hub: Hub, root: Client) -> None:
    """By the page; and each of its sentences is true afterwards."""
    assert (await root.call("POST", "/users/ben"))[0] == 201
    assert (await root.call("POST", "/shares/ada/", json={"user": "ben"}))[0] == 200
    async with client(hub, await token(root, "ada")) as ada, client(hub, await token(root, "ben")) as ben:
        assert (await ben.call("GET", "/users/ben/shared"))[1]["items"]
        assert hub.processes()
        browser = context.browser
        assert browser is not None
        own = await browser.new_context()
        page = await own.new_page()
        await signed_in(page, hub, "root")
        await page.goto(f"{hub.url}/hub/admin/people?name=ada")
        zone = page.get_by_role("region", name="Delete ada")
        for sentence in (
            "1 running server is stopped",
            "files stay",
            "tokens and shares end at once",
            "audit",
        ):
            await expect(zone).to_contain_text(sentence)
        await zone.get_by_label("Type the name").fill("ada")
        await zone.get_by_role("button").click()
        await page.wait_for_url("**/hub/admin", timeout=lab.SLOW)
        await own.close()

        assert hub.processes() == []
        assert (await ada.call("GET", "/user"))[0] == 403
        assert (await ben.call("GET", "/users/ben/shared"))[1]["items"] == []
        assert (await root.call("POST", "/users/ada"))[0] == 201  # the next holder of the name
        assert (await ada.call("GET", "/user"))[0] == 403
        assert (await ben.call("GET", "/users/ben/shared"))[1]["items"] == []
    assert (await root.call("GET", "/users/ada"))[1]["servers"] == {}
    _, audit = await root.call("GET", "/audit?target_user=ada")
    assert any(row["action"] == "POST admin/people/delete" for row in audit)
