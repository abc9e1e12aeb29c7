"""The administrators' list in a real browser: what is asked, what is live, what survives."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial

import pytest
from playwright.async_api import Page, expect

from browser.pages.conftest import Tab
from component.hub.pages_site import FAILURE, RUNNING, STOPPED, Site
from himalia_hub import clock
from himalia_hub.pages import live
from himalia_hub.servers.state import Phase
from himalia_hub.users.models import User
from support import eventually

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

GB = 2**30
ASK_FOR_NOBODY = """row => document.addEventListener("htmx:configRequest", ({ detail: { parameters } }) => {
  if (parameters.only === row) parameters.only = "nobody/";
})"""
LIVE = "body[data-ready][data-live=live]"


async def look(page: Page, query: str = "") -> None:
    await page.goto(f"/hub/admin{query}")
    await expect(page.locator(LIVE)).to_be_attached()


def waits_before_news(hub: Site, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the reader of the rows began to wait before it told something: looks are counted, for seconds would be
    those of a busy machine."""
    reader, begun, found = hub.app[live.LIVE], 0, list[int]()
    wait, tell = reader._bell.wait, reader._tell

    async def waited() -> bool:
        nonlocal begun
        begun += 1
        return await wait()

    async def told(*news) -> None:
        found.append(begun)
        await tell(*news)

    monkeypatch.setattr(reader._bell, "wait", waited)
    monkeypatch.setattr(reader, "_tell", told)
    return found


def line(page: Page, name: str):
    return page.locator(f"tr[data-name='{name}']")


async def test_typing_filters_the_list_and_the_address_follows(hub: Site, tab: Tab) -> None:
    for name in ("typed-ann", "typed-bob"):
        await hub.person(name)
    async with tab() as page:
        await look(page)
        await page.get_by_role("searchbox").fill("typed-")
        await expect(page.get_by_text("1–2 of 2 matching")).to_be_visible()
        await page.get_by_role("searchbox").fill("owner:typed-bob")
        await expect(page.get_by_text("1–1 of 1 matching")).to_be_visible()
        await expect(page).to_have_url(re.compile(r"/hub/admin\?q=owner%3Atyped-bob$"))

        await page.reload()
        await expect(page.get_by_text("1–1 of 1 matching")).to_be_visible()
        await page.go_back()
        await expect(page.get_by_text("1–2 of 2 matching")).to_be_visible()
        await expect(page.get_by_role("searchbox")).to_have_value("typed-")


async def test_a_bad_term_is_underlined_with_help_and_matches_nothing(hub: Site, tab: Tab) -> None:
    async with tab() as page:
        await look(page, "?q=state:runing+owner:root")

        await expect(page.locator("mark")).to_have_text("state:runing")
        await expect(page.get_by_role("alert").filter(has_text="is no state")).to_contain_text("running")
        await expect(page.locator("tr[data-row]")).to_have_count(0)
        await page.get_by_role("link", name="Clear the search").click()
        await expect(page.locator("tr[data-row]").first).to_be_visible()
        await expect(page.get_by_role("searchbox")).to_have_value("")


async def test_an_empty_result_says_why_and_offers_to_clear(hub: Site, tab: Tab) -> None:
    async with tab() as page:
        await look(page, "?q=zzz")

        await expect(page.get_by_role("heading", name="Nobody found")).to_be_visible()
        await page.get_by_role("link", name="Clear the search").click()
        await expect(page.locator("tr[data-row]").first).to_be_visible()
        await expect(page.get_by_role("searchbox")).to_have_value("")
        await expect(page).to_have_url(re.compile(r"/hub/admin\??$"))


async def test_sorting_by_keyboard_says_so_and_turns(hub: Site, tab: Tab) -> None:
    for name in ("sort-a", "sort-b"):
        await hub.server(await hub.person(name), "", RUNNING, Phase.READY)
    async with tab() as page:
        await look(page, "?q=sort-")
        header = page.get_by_role("columnheader", name="Person")
        await expect(header).to_have_attribute("aria-sort", "ascending")

        await page.get_by_role("link", name="Person").focus()
        await page.keyboard.press("Enter")
        await expect(header).to_have_attribute("aria-sort", "descending")
        await expect(page.locator("tr[data-row]").first).to_have_attribute("data-name", "sort-b")
        await page.get_by_role("link", name="State").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("columnheader", name="State")).to_have_attribute(
            "aria-sort", "ascending"
        )
        await expect(page.locator("tr[data-row]").first).to_have_attribute("data-name", "sort-a")
        await expect(page).to_have_url(re.compile("sort=state"))


async def test_columns_are_kept_per_person(hub: Site, tab: Tab) -> None:
    async with tab() as page:
        await look(page)
        await page.locator("#columns > summary").click()
        await page.get_by_label("Groups").uncheck()
        await page.get_by_label("Node").check()
        await page.get_by_role("button", name="Show these").click()
        await expect(page.get_by_role("columnheader", name="Node")).to_be_visible()
        await expect(page.get_by_role("columnheader", name="Groups")).to_have_count(0)

    async with tab() as page:
        await look(page)
        await expect(page.get_by_role("columnheader", name="Node")).to_be_visible()
        await page.locator("#columns > summary").click()
        await page.get_by_label("Groups").check()
        await page.get_by_role("button", name="Show these").click()
        await expect(page.get_by_role("columnheader", name="Groups")).to_be_visible()


async def test_a_server_started_elsewhere_turns_up_within_two_seconds(
    hub: Site, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await hub.person("elsewhere")
    async with tab() as page:
        await look(page, "?q=elsewhere")
        await page.evaluate("window.mark = 1")
        chip = page.locator("[data-count=running]")
        running = int(await chip.text_content() or "")
        waits = waits_before_news(hub, monkeypatch)

        await hub.server(user, "", RUNNING, Phase.READY)  # nobody rings: the database alone says so

        await expect(line(page, "elsewhere")).to_have_attribute("data-state", "ready")
        assert waits[0] <= 1, "found at the first look"
        assert live.PAUSE_S + live.COMPARE_S < 2.5, "the longest from one look to the next"
        await expect(chip).to_have_text(str(running + 1))
        await expect(page.locator("[data-mark]")).to_contain_text("live")
        await expect(page.locator("[data-say]")).to_have_text("elsewhere: Running")
        await expect(page.get_by_role("link", name="refresh the order")).to_be_visible()
        assert await page.evaluate("window.mark") == 1


async def test_what_a_viewer_is_about_to_do_survives_twenty_patches(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("steady"), "", RUNNING, Phase.STARTING)
    async with tab() as page:
        await look(page, "?q=steady")
        row = line(page, "steady")
        stop = row.get_by_role("button", name="Stop")
        await row.get_by_role("checkbox").check()
        await row.locator("summary").click()
        await stop.focus()
        await stop.hover()
        await page.mouse.down()
        for turn in range(20):
            phase, word = [(Phase.READY, "ready"), (Phase.STARTING, "starting")][turn % 2]
            await hub.change(server, phase=phase)
            await expect(row).to_have_attribute("data-state", word)

        await expect(row.get_by_role("checkbox")).to_be_checked()
        await expect(stop).to_be_focused()
        await expect(row.locator("details dl")).to_be_visible()
        await expect(page.locator("[data-picked]")).to_have_text("1 selected")
        await page.mouse.up()
        await expect(row.get_by_role("button", name="Stopping")).to_be_disabled()


async def test_a_press_on_a_button_that_becomes_another_does_neither(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("turning"), "", RUNNING, Phase.READY)
    async with tab() as page:
        await look(page, "?q=turning")
        row = line(page, "turning")
        await row.get_by_role("button", name="Stop").hover()
        await page.mouse.down()
        await hub.change(server, desired=STOPPED, phase=Phase.STOPPED)
        await expect(row.get_by_role("button", name="Start")).to_be_visible()
        posted: list[str] = []
        page.on("request", lambda request: posted.append(request.method))
        await page.mouse.up()
        await hub.change(server, node="elsewhere")
        await expect(row).to_contain_text("elsewhere")
        assert posted == []


async def test_what_servers_use_is_found_and_patched_without_a_word(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("hungry"), "", RUNNING, Phase.READY)
    await hub.measured(server, 3 * GB, 0.5)
    async with tab() as page:
        await look(page, "?q=hungry+mem:>2G")
        row = line(page, "hungry")
        await expect(row.locator("[data-use=memory]")).to_have_text("3 GB")
        await row.get_by_role("checkbox").check()
        await row.locator("summary").focus()

        await hub.measured(server, 4 * GB, 1.25)

        await expect(row.locator("[data-use=memory]")).to_have_text("4 GB")
        await expect(row.locator("[data-use=cpu]")).to_have_text("125%")
        await expect(page.locator("[data-say]")).to_have_text("")
        await expect(row.locator("summary")).to_be_focused()
        noted = await page.evaluate("[...moved]")  # other rows may be: this list is one of many tests
        assert await row.get_attribute("id") not in noted
        await expect(row.get_by_role("checkbox")).to_be_checked()
        await row.locator("summary").click()
        await expect(
            row.locator("svg[aria-label='Memory over the last hour: 4 GB now, 4 GB at most']")
        ).to_be_visible()


async def test_start_and_stop_in_a_row_need_no_reload(hub: Site, tab: Tab) -> None:
    await hub.person("rowan")
    async with tab() as page:
        await look(page, "?q=rowan")
        await page.evaluate("window.mark = 1")
        row = line(page, "rowan")
        await row.get_by_role("button", name="Start").click()
        await expect(row).to_have_attribute("data-state", "starting")
        await row.get_by_role("button", name="Stop").click()
        await expect(row).to_have_attribute("data-state", "stopped")
        assert await page.evaluate("window.mark") == 1


async def test_a_refused_row_action_says_why_with_the_request_and_leaves_the_others_alone(
    hub: Site, tab: Tab
) -> None:
    for name in ("fault-a", "fault-b"):
        await hub.person(name)
    async with tab("root", "404 POST", "Response Status Error Code 404") as page:
        await look(page, "?q=fault-")
        await page.evaluate(ASK_FOR_NOBODY, "fault-a/")
        await line(page, "fault-a").get_by_role("button", name="Start").click()

        await expect(line(page, "fault-a").get_by_role("alert")).to_contain_text("There is no such person.")
        await expect(line(page, "fault-a").get_by_role("alert")).to_contain_text("(request ")
        await line(page, "fault-b").get_by_role("button", name="Start").click()
        await expect(line(page, "fault-b")).to_have_attribute("data-state", "starting")


async def test_two_administrators_on_one_server_both_see_it_stop(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("shared-row"), "", RUNNING, Phase.READY)
    async with tab() as one, tab() as two:
        await look(one, "?q=shared-row")
        await look(two, "?q=shared-row")
        await line(one, "shared-row").get_by_role("button", name="Stop").click()
        await expect(line(two, "shared-row").get_by_role("button", name="Stopping")).to_be_disabled()
        await expect(line(one, "shared-row").get_by_role("button", name="Stopping")).to_be_disabled()
        await hub.change(server, phase=Phase.STOPPED)
        await expect(line(two, "shared-row")).to_have_attribute("data-state", "stopped")


async def test_everything_is_reached_by_keys_and_letters_stay_letters_in_the_box(hub: Site, tab: Tab) -> None:
    await hub.person("keys-a")
    server = await hub.server(await hub.person("keys-b"), "", STOPPED, node="here")
    async with tab() as page:
        await look(page, "?q=keys-")
        await page.keyboard.press("ArrowDown")
        await expect(line(page, "keys-a")).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Space")
        await expect(line(page, "keys-b").get_by_role("checkbox")).to_be_checked()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keys and words")).to_be_visible()
        await hub.change(server, node="elsewhere")
        await expect(line(page, "keys-b")).to_contain_text("elsewhere")
        await page.keyboard.press("Escape")
        await expect(line(page, "keys-b")).to_be_focused()
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.press("End")
        await page.keyboard.type("/?")
        await expect(page.get_by_role("searchbox")).to_have_value("keys-/?")
        await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_bulk_stop_asks_goes_on_alone_and_says_what_became_of_each(hub: Site, tab: Tab) -> None:
    servers = [
        await hub.server(await hub.person(f"many-{number:02}"), "", RUNNING, Phase.READY)
        for number in range(60)
    ]
    await hub.person("many-none")
    async with tab() as page:
        await look(page, "?q=many-")
        stop = page.locator("[data-act=stop]")
        await expect(stop).to_be_disabled()
        await page.get_by_label("Select this page").check()
        await expect(page.locator("[data-picked]")).to_have_text("50 selected")
        await expect(page.locator("[data-act=start]")).to_be_disabled()  # all of them run
        await page.get_by_label("all 61 that match").check()
        await stop.click()

        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("heading")).to_have_text("Stop 60 servers?")
        await expect(dialog).to_contain_text("1 of those selected is left out")
        await page.keyboard.press("Escape")
        await expect(stop).to_be_focused()
        await stop.click()
        await dialog.get_by_role("button", name="Stop 60").click()

        await expect(page.locator("#job-title")).to_have_text("Stopping: 0 of 60")
        for server in servers[:-1]:
            await hub.change(server, phase=Phase.STOPPED)
        await expect(page.locator("#job-title")).to_have_text("Stopping: 59 of 60")
        await hub.change(servers[-1], phase=Phase.STOPPED)
        await expect(page.locator("#job-title")).to_have_text("60 of 60 stopped")
        await expect(page.locator("[data-outcome=done]")).to_have_count(60)
        await expect(line(page, "many-00")).to_have_attribute("data-state", "stopped")


async def test_what_failed_in_bulk_can_be_tried_again(hub: Site, tab: Tab) -> None:
    for name in ("again-a", "again-b"):
        await hub.person(name)
    async with tab() as page:
        await look(page, "?q=again-")
        await page.get_by_label("Select this page").check()
        await page.locator("[data-act=start]").click()
        await page.get_by_role("dialog").get_by_role("button", name="Start 2").click()
        await expect(page.locator("#job-title")).to_have_text("Starting: 0 of 2")
        for name, values in (
            ("again-a", {"phase": Phase.READY, "acted_generation": 1}),
            (
                "again-b",
                {"phase": Phase.FAILED, "desired": STOPPED, "acted_generation": 1, "failure": FAILURE},
            ),
        ):
            # The job asks one after the other, and only its wish makes the row.
            row = await eventually(partial(hub.row, name), within_s=30, what=f"{name} is asked")
            assert row is not None
            await hub.change(row, **values)

        await expect(page.locator("#job-title")).to_have_text("1 of 2 started, 1 not")
        await expect(page.locator(".failures")).to_contain_text(
            "again-b: ended while starting: the server ended with status 1"
        )
        await page.get_by_role("button", name="Try the 1 again").click()
        await expect(page.locator("#job-title")).to_have_text("Starting: 0 of 1")


async def test_who_may_only_look_has_no_buttons(hub: Site, tab: Tab) -> None:
    async with hub.db.begin() as db:
        from himalia_hub.rbac.models import Role, RoleAssignment

        viewer = await hub_person(db, "viewer")
        role = Role(name="looker", description="", scopes=["admin-ui", "list:users", "read:servers"])
        db.add(role)
        await db.flush()
        db.add(RoleAssignment(role_id=role.id, user_id=viewer.id))
    await hub.server(await hub.person("looked-at"), "", RUNNING, Phase.READY)
    async with tab("viewer") as page:
        await look(page, "?q=looked-at")

        await expect(line(page, "looked-at")).to_have_attribute("data-state", "ready")
        assert await page.locator("#list button[name]").count() == 0
        assert await page.get_by_role("checkbox", name=re.compile("Select")).count() == 0


async def hub_person(db, name: str) -> User:
    from component.hub.hub_site import stored

    user = User(name=name, admin=False, password_hash=stored(), created=clock.now())
    db.add(user)
    await db.flush()
    return user


async def test_idle_and_group_terms_and_chips_find_what_they_say(hub: Site, tab: Tab) -> None:
    now = clock.now()
    for name, minutes in (("idle-fresh", 5), ("idle-old", 90)):
        await hub.server(
            await hub.person(name), "", RUNNING, Phase.READY, last_activity=now - timedelta(minutes=minutes)
        )
    async with tab() as page:
        await look(page, "?q=idle-+idle:>1h")
        await expect(page.locator("tr[data-row]")).to_have_count(1)
        await expect(line(page, "idle-old")).to_be_visible()
        await page.get_by_role("link", name=re.compile("^Running")).click()
        await expect(page.get_by_role("searchbox")).to_have_value("state:running")
        await expect(line(page, "idle-fresh")).to_be_visible()
