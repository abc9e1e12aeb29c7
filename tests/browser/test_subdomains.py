"""Each person's servers at a host of their own: one signs in at the hub's, works at one's own, and the two share no cookie."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import BrowserContext, expect

import lab
from chromium import Watcher
from hubs import Hub
from steps import sign_in
from support import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub at hub.localhost, whose names below lead browsers to this machine (RFC 6761 §6.3)."""
    hub = Hub(tmp_path / "data")
    host = f"http://hub.localhost:{hub.port}"
    (hub.data / "himalia.toml").write_text(
        f"subdomain_host = {json.dumps(host)}\n" + (hub.data / "himalia.toml").read_text()
    )
    hub.url = host
    try:
        yield hub
        await hub.stop()
    finally:
        hub.clean_up()


async def test_a_person_works_at_a_host_of_their_own_which_never_sees_the_hubs_cookies(
    site: Hub, context: BrowserContext, watcher: Watcher
) -> None:
    site.add_user("ada.l", admin=True)
    token = site.token("ada.l")
    await site.start()
    page = await context.new_page()
    sent: dict[str, set[str]] = {}

    async def note(request: object) -> None:
        headers = await request.all_headers()  # type: ignore[attr-defined]
        host = request.url.split("/")[2]  # type: ignore[attr-defined]
        sent.setdefault(host, set()).update(re.findall(r"(?:^|; )([^=;]+)=", headers.get("cookie", "")))

    page.on("request", note)
    await sign_in(page, site.url, "ada.l")
    await page.get_by_role("button", name=re.compile("^start", re.IGNORECASE)).first.click()
    await page.wait_for_url(
        re.compile(r"//ada-l--[0-9a-f]{20}\.hub\.localhost:\d+/user/ada.l/lab"), timeout=lab.SLOW
    )
    await lab.lab_is_open(page)
    theirs = page.url.split("/")[2]
    await lab.new_notebook(page)
    await expect(await lab.run_cell(page, "6 * 7")).to_contain_text("42")

    assert {"jupyterhub-hub-login", "jupyterhub-session-id"} <= sent[f"hub.localhost:{site.port}"]
    assert not {"jupyterhub-hub-login", "jupyterhub-session-id"} & sent[theirs]
    assert all(not cookie["domain"].startswith(".") for cookie in await context.cookies()), (
        "a cookie for many hosts"
    )

    await page.goto(f"http://{theirs}/hub/home")
    await expect(page).to_have_url(f"{site.url}/hub/home")
    await page.goto(f"{site.url}/user/ada.l/lab")
    await expect(page).to_have_url(re.compile(rf"^http://{theirs}/user/ada.l/lab"))
    assert not watcher.unexpected()
    async with aiohttp.ClientSession(headers={"Authorization": f"token {token}"}) as program:
        base = f"http://127.0.0.1:{site.port}"
        async with program.get(
            f"{base}/hub/api/users/ada.l/server", headers={"Host": site.url[7:]}
        ) as answer:
            model = await answer.json()
            assert model["url"] == model["full_url"] == f"http://{theirs}/user/ada.l/"
        async with program.delete(f"{base}/hub/api/users/ada.l/server") as answer:
            assert answer.status in (202, 204)
        gone = {"Host": theirs, "Accept": "application/json"}

        async def refused() -> bool:
            async with program.get(f"{base}/user/ada.l/api/status", headers=gone) as answer:
                return answer.status == 424

        await eventually(refused, what="the server's host says that it does not run")
    await page.goto(f"http://{theirs}/user/ada.l/lab")
    await expect(page).to_have_url(re.compile(rf"^{site.url}/hub/(user|spawn-pending)/ada.l"))
    await page.goto(f"{site.url}/hub/logout")
    await page.goto(f"http://{theirs}/user/ada.l/lab")
    await expect(page).to_have_url(re.compile(rf"^{site.url}/hub/login"))
