"""A person's own page: what changes shows, and what would be lost is asked about."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from browser.pages.conftest import Tab, sign_in
from component.hub.pages_site import RUNNING, Site, site
from himalia_hub import clock
from himalia_hub.keys import SECRETS
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.usage import store as usage
from himalia_hub.usage.quota import window

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def computing(hub: Site) -> AsyncIterator[Server]:
    """Ida's server, which says of itself, to who has its token, that a notebook computes."""
    server = await hub.server(await hub.person("ida"), "", RUNNING, Phase.READY)
    token = f"token {hub.app[SECRETS].server_token(server.id, server.incarnation)}"

    async def kernels(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != token:
            return web.Response(status=403)
        return web.json_response([{"id": "k1", "name": "python3", "execution_state": "busy"}])

    async def sessions(request: web.Request) -> web.Response:
        return web.json_response([{"path": "thesis.ipynb", "kernel": {"id": "k1"}}])

    app = web.Application()
    app.add_routes([web.get("/user/ida/api/kernels", kernels), web.get("/user/ida/api/sessions", sessions)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await hub.change(server, url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield server
    await runner.cleanup()


async def test_stop_names_the_notebook_that_computes_and_can_be_taken_back(
    hub: Site, computing: Server, tab: Tab
) -> None:
    async with tab("ida") as page:
        await page.goto("/hub/home")
        await expect(page.locator("body[data-live=live]")).to_be_attached()
        await page.get_by_role("button", name="Stop").click()
        dialog = page.get_by_role("dialog", name="A kernel is computing")
        await expect(dialog).to_contain_text("thesis.ipynb")
        await page.keyboard.press("Escape")
        row = await hub.row("ida")
        assert row is not None
        assert row.desired is Desired.RUNNING

        await page.get_by_role("button", name="Stop").click()
        await dialog.get_by_role("button", name="Stop my server").click()
        await expect(page.get_by_role("button", name="Stopping")).to_be_disabled()
        await expect(dialog).to_be_hidden()
        await hub.change(computing, phase=Phase.STOPPED)
        await expect(page.get_by_role("button", name="Start")).to_be_visible()


async def test_memory_and_its_last_hour_move_without_a_reload(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("mem"), "", RUNNING, Phase.READY)
    await hub.measured(server, 2**28, 0.1)
    async with tab("mem") as page:
        await page.goto("/hub/home")
        await expect(page.locator("body[data-live=live]")).to_be_attached()
        await expect(page.locator("[data-use=memory]")).to_have_text("256 MB")

        await hub.measured(server, 2**29, 0.2)

        await expect(page.locator("[data-use=memory]")).to_have_text("512 MB")
        await expect(
            page.locator("svg[aria-label='CPU over the last hour: 20% now, 20% at most']")
        ).to_be_visible()
        await expect(page.locator("[data-say]")).to_have_text("")


async def test_a_server_that_is_stopped_elsewhere_says_so_on_the_card(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("jan"), "", RUNNING, Phase.READY)
    async with tab("jan") as page:
        await page.goto("/hub/home")
        await expect(page.locator("body[data-live=live]")).to_be_attached()
        await page.evaluate("window.mark = 1")

        await hub.change(server, desired=Desired.STOPPED, phase=Phase.STOPPED)

        await expect(page.get_by_role("button", name="Start")).to_be_visible()
        await expect(page.locator("[data-say]")).to_have_text("My server: Stopped")
        assert await page.evaluate("window.mark") == 1


async def test_a_half_made_choice_and_a_press_survive_what_changes_beside_them(
    tmp_path: Path, chromium: Chromium
) -> None:
    profiles = [{"name": "small"}, {"name": "large"}, {"name": "huge"}]
    async with site(tmp_path, profiles=profiles) as hub:
        lee = await hub.person("lee")
        beside = await hub.server(lee, "beside", RUNNING, Phase.STARTING)
        page = await chromium.new_page(base_url=hub.url)
        await sign_in(page, "lee")
        await expect(page.locator("body[data-live=live]")).to_be_attached()
        choice = page.get_by_role("article", name="My server").get_by_label("Profile")
        await choice.select_option("large")
        start = page.get_by_role("button", name="Start My server")
        await start.hover()
        await page.mouse.down()
        for turn in range(4):
            phase, word = [(Phase.READY, "ready"), (Phase.STARTING, "starting")][turn % 2]
            await hub.change(beside, phase=phase)
            await expect(page.locator("[data-server=beside]")).to_have_attribute("data-state", word)

        await expect(choice).to_have_value("large")
        await page.mouse.up()
        await page.wait_for_url("**/spawn-pending/**")
        row = await hub.row("lee")
        assert row is not None
        assert row.user_options == {"profile": "large"}
        await page.close()


async def test_cancelling_a_start_stops_that_server_only(hub: Site, tab: Tab) -> None:
    kim = await hub.person("kim")
    await hub.server(kim, "", RUNNING, Phase.STARTING)
    await hub.server(kim, "seminar", RUNNING, Phase.STARTING)
    async with tab("kim") as page:
        await page.goto("/hub/spawn-pending/kim/seminar")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("heading", name="Stopping")).to_be_visible()

    seminar, own = await hub.row("kim", "seminar"), await hub.row("kim")
    assert seminar is not None
    assert own is not None
    assert (seminar.desired, own.desired) == (Desired.STOPPED, Desired.RUNNING)


async def test_back_after_the_progress_page_starts_nothing(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("lou"), "", RUNNING, Phase.STARTING)
    async with tab("lou") as page:
        await page.goto("/hub/home")
        await page.goto("/hub/spawn-pending/lou?next=/hub/account")
        await expect(page.locator("body[data-ready]")).to_be_attached()
        await hub.change(server, phase=Phase.READY)
        await page.wait_for_url(re.compile("^http://[^/]+/hub/account$"))

        await page.go_back()

        await expect(page).to_have_url(re.compile("/hub/home$"))
    row = await hub.row("lou")
    assert row is not None
    assert (row.desired, row.generation) == (Desired.RUNNING, 1)


async def test_the_countdown_runs_and_five_minutes_before_its_end_a_banner_comes_by_itself(
    tmp_path: Path, chromium: Chromium
) -> None:
    async with site(tmp_path, cull={"idle_s": 3600}) as hub:
        now = clock.now()
        person = await hub.person("mia")
        await hub.server(person, "", RUNNING, Phase.READY, started=now, last_activity=now)
        context = await chromium.new_context(base_url=hub.url)
        page = await context.new_page()
        await page.clock.install(time=now)
        await sign_in(page, "mia")
        runs = page.locator(".facts time[data-span]")
        stops, banner = page.locator(".facts time[data-until]"), page.locator("[data-soon]")
        await expect(page.locator("body[data-ready]")).to_be_attached()
        await expect(stops).to_have_text(re.compile("in (1 h|59 min)"))
        await expect(banner).to_be_hidden()
        await page.evaluate("window.mark = 1")

        await page.clock.fast_forward(56 * 60 * 1000)

        await expect(stops).to_have_text(re.compile("in [34] min"))
        await expect(runs).to_have_text(re.compile("5[67] min"))
        await expect(banner).to_be_visible()
        await expect(page.locator("[data-say]")).to_contain_text("My server: Stops in")
        assert await page.evaluate("window.mark") == 1
        await context.close()


async def test_who_has_no_server_presses_enter_and_a_failing_one_leaves_the_other_alone(
    hub: Site, tab: Tab
) -> None:
    nia = await hub.person("nia")
    async with tab("nia") as page:
        await page.goto("/hub/home")
        primary = page.locator("button.primary")
        await expect(primary).to_have_count(1)
        await primary.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("progressbar")).to_be_visible()
        row = await hub.row("nia")
        assert row is not None
        await page.goto("/hub/home")  # while nothing changes: its progress would take the page elsewhere

        failure = {
            "message": "The server ended with exit status 3.",
            "remedy": "",
            "log_tail": ["no space left"],
        }
        await hub.change(row, desired="stopped", phase=Phase.FAILED, failure=failure)
        await hub.server(nia, "second", RUNNING, Phase.READY)
        await page.reload()
        failing, running = page.locator("[data-state=failed]"), page.locator("[data-state=ready]")
        await expect(failing.get_by_text("exit status 3")).to_be_visible()
        await expect(failing.get_by_role("link", name="Show log")).to_be_visible()
        await expect(running.get_by_role("link", name="Open")).to_be_visible()


async def test_hours_and_quota_are_told_and_who_has_none_left_is_told_when_there_are_new_ones(
    tmp_path: Path, chromium: Chromium, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = clock.now
    begins, ends = window("month", real())
    if real() - begins < timedelta(hours=3):  # what was used belongs to the month before
        monkeypatch.setattr(clock, "now", lambda: real() + timedelta(hours=3))
    async with site(tmp_path, quotas={"server_hours": 2, "servers": 3}) as hub:
        server, now = await hub.server(await hub.person("olga")), clock.now()
        server.started = now - timedelta(minutes=90)
        await hub.db.write(lambda db: usage.record_life(db, server, until=now))
        page = await chromium.new_page(base_url=hub.url)
        await sign_in(page, "olga")
        told = page.get_by_role("region", name="Your usage")
        await expect(told).to_contain_text("1.5 server-hours in the last")
        await expect(told).to_contain_text("0 of 3 servers")
        await expect(told).to_contain_text(
            re.compile(rf"1\.5 of 2 server-hours.*, new ones on {ends:%Y-%m-%d}")
        )

        server.started = now - timedelta(hours=1)
        await hub.db.write(lambda db: usage.record_life(db, server, until=now))
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("The quota does not allow this")
        refused = page.get_by_role("main")
        await expect(refused).to_contain_text("The 2 server-hours of olga are used up.")
        await expect(refused).to_contain_text(f"There are new ones on {ends:%-d %B %Y, 00:00} UTC.")
        row = await hub.row("olga")
        assert row is not None
        assert row.desired is Desired.STOPPED
        await page.close()
