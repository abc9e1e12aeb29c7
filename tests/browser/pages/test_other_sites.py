"""What another site can make a signed-in browser do: a neighbour under the same domain, whom the browser trusts most.

Chromium itself judges where an address leads and which cookies go along (CVE-2026-33709, CVE-2026-40864,
CVE-2024-28233).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import sqlalchemy as sa
from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Page, Route, async_playwright, expect

from browser.pages.conftest import sign_in
from chromium import FLAGS
from component.hub import hub_site
from component.hub.hub_site import Site
from himalia_hub import clock
from himalia_hub.auth import cookies
from himalia_hub.groups.models import Group
from himalia_hub.secrets import hash_token
from himalia_hub.servers.models import Server
from himalia_hub.shares import store as shares
from himalia_hub.shares.models import Share
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

NEIGHBOUR = "http://evil.example.test/"
ELSEWHERE = (
    "//evil.example.test/", "///evil.example.test", "/\\evil.example.test", "\\\\evil.example.test", "/\t/evil.example.test",
    "/%09/evil.example.test", "%2f%2fevil.example.test", "/%2fevil.example.test", "/%5cevil.example.test",
    "https:evil.example.test", "http://hub.example.test@evil.example.test/", "http://hub.example.test%40evil.example.test/",
    "//hub.example.test@evil.example.test", "/\u2215evil.example.test", "\uff0f\uff0fevil.example.test",
    "http://evil.example.test\\@hub.example.test/", "javascript:alert(1)", "/ //evil.example.test", ".evil.example.test",
)  # fmt: skip
CODE = "a code for what bob has"
FORMS = (
    ("home/start", {"server": ""}), ("spawn", {}), ("spawn/ann/x", {}), ("accept-share", {"code": CODE}),
    ("share/ann/x", {"user": "bob", "action": "share"}), ("token", {"note": "mine"}),
    ("api/users", {"usernames": "new"}), ("api/users/ann/server", {}), ("api/shares/ann/x", {"user": "bob"}),
    ("admin/people/add", {"names": "new"}), ("account/password", {"new": "another long one"}),
)  # fmt: skip
KINDS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
ATTACK = """async ([hub, forms, kinds]) => {
  for (const [path, fields] of forms) {
    for (const kind of kinds) {
      const json = kind === "text/plain" ? JSON.stringify(fields) : null;
      const form = new FormData();
      for (const [key, value] of Object.entries(fields)) form.set(key, value);
      const body = json ?? (kind.startsWith("multipart") ? form : new URLSearchParams(fields));
      await fetch(`${hub}/hub/${path}`, {method: "POST", mode: "no-cors", credentials: "include", body}).catch(() => 0);
    }
    await fetch(`${hub}/hub/${path}`, {mode: "no-cors", credentials: "include"}).catch(() => 0);
  }
}"""
SUBMIT = """([to, fields]) => {
  const form = Object.assign(document.createElement("form"), {method: "POST", action: to});
  for (const [name, value] of Object.entries(fields))
    form.append(Object.assign(document.createElement("input"), {name, value}));
  document.body.append(form);
  form.submit();
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with hub_site.site(tmp_path_factory.mktemp("hub"), servers={"slow_start_s": 0}) as running:
        ann = await running.person("ann", admin=True)
        await running.server(ann, "x")
        theirs = await running.server(await running.person("bob"), "y")
        async with running.db.begin() as db:
            row, _ = await shares.new_code(
                db, theirs, ["access:servers"], now=clock.now(), lasts=timedelta(days=1)
            )
            row.hashed = hash_token(CODE)
        await running.person("mallory")
        yield running


def at(hub: Site) -> str:
    """The hub under the domain that the neighbour has a name in, too."""
    return f"http://hub.example.test:{urlsplit(hub.url).port}"


@pytest_asyncio.fixture(params=["with fetch metadata", "plain http"], scope="module", loop_scope="module")
async def chromium(hub: Site, request: pytest.FixtureRequest) -> AsyncIterator[Chromium]:
    """Chromium sends fetch metadata to addresses that it takes for secure, and else `Origin`."""
    flags = [*FLAGS, "--host-resolver-rules=MAP *.example.test 127.0.0.1"]
    if request.param == "with fetch metadata":
        flags.append(f"--unsafely-treat-insecure-origin-as-secure={at(hub)},{NEIGHBOUR.rstrip('/')}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def context(hub: Site, chromium: Chromium) -> AsyncIterator[BrowserContext]:
    """A browser's memory of its own, in which the neighbour has a page."""
    made = await chromium.new_context(base_url=at(hub))
    made.set_default_timeout(60_000)
    await made.route(f"{NEIGHBOUR}**", _neighbour)
    yield made
    await made.close()


async def _neighbour(route: Route) -> None:
    await route.fulfill(body="<!doctype html><title>a neighbour</title><body>", content_type="text/html")


async def rows(hub: Site) -> list[Any]:
    """What an attack would change: counts, and every wish."""
    counts = [await hub.count(table) for table in (User, Group, Share, ApiToken)]
    async with hub.db.read() as db:
        wishes = await db.execute(sa.select(Server.id, Server.desired, Server.generation))
        passwords = await db.scalars(sa.select(User.password_hash).order_by(User.id))
        return [counts, [tuple(row) for row in wishes], list(passwords)]


async def test_no_address_leads_a_signed_in_browser_off_the_hub(hub: Site, context: BrowserContext) -> None:
    page = await context.new_page()
    await sign_in(page, "ann")
    for wanted in ELSEWHERE:
        # As a link would say it: what Chromium makes of the query is what the hub reads.
        await page.goto(f"/hub/login?next={wanted}", wait_until="commit")
        assert page.url.startswith(at(hub) + "/"), f"{wanted!r} leads to {page.url}"


async def test_a_neighbour_starts_shares_and_changes_nothing(hub: Site, context: BrowserContext) -> None:
    page = await context.new_page()
    await sign_in(page, "ann")
    before = await rows(hub)
    await page.goto(NEIGHBOUR)
    await page.evaluate(ATTACK, [at(hub), FORMS, KINDS])
    for path, fields in FORMS:
        await page.goto(NEIGHBOUR)
        async with page.expect_navigation(url=f"{at(hub)}/**"):
            await page.evaluate(SUBMIT, [f"{at(hub)}/hub/{path}", fields])
    assert await rows(hub) == before
    await page.goto("/hub/home")
    await expect(page.get_by_role("heading", name="Sign in")).to_have_count(0)


async def test_a_cookie_that_a_neighbour_adds_makes_nobody_another_person(
    hub: Site, context: BrowserContext
) -> None:
    page = await context.new_page()
    await sign_in(page, "ann")
    async with hub.client() as mallory:
        await mallory.login("mallory")
        theirs = mallory.cookie(cookies.LOGIN)
    await page.goto(NEIGHBOUR)
    for path in ("/", "/hub/", "/hub/home"):
        await page.evaluate(
            "text => document.cookie = text", f"{cookies.LOGIN}={theirs};domain=example.test;path={path}"
        )
        for xsrf in ("_xsrf", cookies.ANONYMOUS):
            await page.evaluate("text => document.cookie = text", f"{xsrf}=x;domain=example.test;path={path}")
    await page.goto("/hub/home")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "mallory" not in await _text(page)
    # Garbage changes nothing: it is no sign-in.
    await context.clear_cookies(domain=".example.test")
    await page.goto(NEIGHBOUR)
    for path in ("/", "/hub/home"):
        await page.evaluate(
            "text => document.cookie = text", f"{cookies.LOGIN}=x.y;domain=example.test;path={path}"
        )
    await page.goto("/hub/home")
    assert "ann" in await _text(page)


async def _text(page: Page) -> str:
    return await page.locator("body").inner_text()
