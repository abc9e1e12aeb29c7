"""Tokens in a browser: made by ticking boxes, seen once, revoked after a question."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import expect

from browser.pages.conftest import Tab
from component.hub.hub_site import Site, site
from himalia_hub import clock
from himalia_hub.tokens import store
from himalia_hub.tokens.models import ApiToken

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """With the API that tokens are for."""
    async with site(tmp_path_factory.mktemp("hub")) as running:
        yield running


async def test_a_token_is_seen_once_and_lets_nobody_in_once_it_was_revoked_after_a_question(
    hub: Site, tab: Tab
) -> None:
    await hub.person("lou")

    async def program(token: str) -> int:
        async with hub.client(token) as client:
            return (await client("GET", "/hub/api/user")).status

    async with tab("lou") as page:
        await page.goto("/hub/account")
        await page.get_by_role("link", name="See and make tokens").click()
        await page.get_by_label("What it is for").fill("nightly <b>copy</b>")
        await page.get_by_label("Start your servers").check()
        await page.get_by_role("button", name="Make the token").click()
        await expect(page.get_by_role("heading", name="Your new token")).to_be_visible()
        secret = await page.locator("#new-token").text_content()
        assert secret

        await page.reload()
        await expect(page.get_by_role("row", name="nightly <b>copy</b>")).to_be_visible()
        await expect(page.get_by_text(secret)).to_have_count(0)
        assert await program(secret) == 200

        await page.get_by_role("button", name="Revoke nightly").click()
        await expect(page.get_by_role("heading", name="Revoke “nightly <b>copy</b>”?")).to_be_visible()
        assert await program(secret) == 200
        await page.get_by_role("button", name="Revoke it").click()
        await expect(page.get_by_role("heading", name="No tokens")).to_be_visible()
        assert await program(secret) == 403


async def test_tokens_of_servers_and_programs_stand_apart_and_say_what_revoking_does(
    hub: Site, tab: Tab
) -> None:
    kim = await hub.person("kim")
    server = await hub.server(kim)
    async with hub.db.begin() as db:
        await store.issue(
            db, kim.id, now=clock.now(), scopes=["inherit"], client_id="service-grader", note="grader"
        )
        db.add(ApiToken(hashed="h" * 64, user_id=kim.id, server_id=server.id, scopes=[], created=clock.now()))
    async with tab("kim") as page:
        await page.goto("/hub/token")
        tables = page.get_by_role("table")
        await expect(tables).to_have_count(2)
        await expect(tables.filter(has_text="grader").locator("caption")).to_contain_text(
            "signs you out of that"
        )
        await expect(tables.last.locator("caption")).to_contain_text("cuts the server off")
