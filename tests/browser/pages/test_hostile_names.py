"""Names that are markup, endless, or from right to left, on every page: text everywhere, and no report of a browser."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from playwright.async_api import Browser as Chromium
from playwright.async_api import Request, expect

from browser.pages.conftest import sign_in
from browser.pages.sample import PAGES
from component.hub.pages_site import FAILURE, RUNNING, STOPPED, Site, site
from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.groups import store as groups
from himalia_hub.notices.models import Announcement
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"'><svg/onload=alert(3)>{{7*7}}{%raw%}",
    "javascript:alert(4)//&amp;&lt;",
    "\u202egnp.txt\u202c مريم",
    "x" * 255,
    "🌙 ‍luna \u200b \ufeff",
]


async def fill(hub: Site) -> None:
    """Each name wherever a name or a text of somebody's can be; `root` looks."""
    root = await hub.person("root", admin=True)
    for number, name in enumerate(HOSTILE):
        user = await hub.person(name)
        failure = FAILURE | {"message": name, "log_tail": [name, "\x1b[31m" + name]}
        await hub.server(user, "", RUNNING, Phase.READY, display_name=name)
        await hub.server(user, "failed", STOPPED, Phase.FAILED, display_name=name, failure=failure)
        await hub.server(root, f"s{number}", STOPPED, Phase.FAILED, display_name=name, failure=failure)
        async with hub.db.begin() as db:
            if name.isprintable() and "/" not in name:  # others cannot be the names of groups
                await groups.add(db, await groups.create(db, name), [user, root])
            db.add(Announcement(level="info", text=name, starts=clock.now(), ends=None, author=name))
            db.add(_audit(name))
    seminar = await hub.server(root, "seminar", RUNNING, Phase.STARTING, display_name=HOSTILE[0])
    for name in HOSTILE:
        await hub.event(seminar, name)
    async with hub.db.begin() as db:
        await db.execute(
            sa.update(Server).where(Server.user_id == root.id, Server.name == "s0").values(name="teaching")
        )


def _audit(name: str) -> AuditRow:
    return AuditRow(
        at=clock.now(), kind="change", action="POST api/users/{user}", actor=name, on_behalf_of=name,
        token_id=None, address="127.0.0.1", target_user=name, target=name, status=200,
        change={"after": {name: name}}, request_id="r",
    )  # fmt: skip


async def test_no_name_is_ever_more_than_text(tmp_path: Path, chromium: Chromium) -> None:
    """GHSA-c4gm-pwx9-9w8j: a name on the page of a share was HTML."""
    noise: list[str] = []
    paths = [*PAGES.values()]
    paths += [f"admin/people?name={quote(name, safe='')}" for name in HOSTILE[:3]]
    paths += [f"admin?q={quote(HOSTILE[0], safe='')}", f"nothing/{quote(HOSTILE[0], safe='')}"]

    def reported(request: Request) -> None:
        if "csp-report" in request.url:
            noise.append(f"{here[0]}: {request.post_data}")

    async with site(tmp_path) as hub:
        await fill(hub)
        context = await chromium.new_context(base_url=hub.url, viewport={"width": 360, "height": 800})
        context.set_default_timeout(60_000)
        page = await context.new_page()
        here = [""]
        page.on("pageerror", lambda error: noise.append(f"{here[0]}: {error}"))
        page.on("dialog", lambda dialog: noise.append(f"{here[0]}: dialog {dialog.message}"))
        page.on("console", lambda line: "Refused" in line.text and noise.append(f"{here[0]}: {line.text}"))
        page.on("request", reported)
        await sign_in(page, "root")
        for here[0] in paths:
            await page.goto(f"/hub/{here[0]}")
            await expect(page.locator("body[data-ready]")).to_be_attached()
            if await page.evaluate("document.documentElement.scrollWidth - innerWidth") > 0:
                noise.append(f"{here[0]}: scrolls sideways")
            if await page.locator("img[src=x], svg[onload], [onerror]").count():
                noise.append(f"{here[0]}: markup")
        await context.close()
    assert noise == []
