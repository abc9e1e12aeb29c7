"""What administrators do beside the list: people, groups, the audit, health, the end of the hub."""

from __future__ import annotations

import csv
import re
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from browser.pages.conftest import Tab, sign_in
from component.hub import hub_site
from component.hub.hub_site import EmptyProxy
from component.hub.pages_site import RUNNING, Site, site
from himalia_hub import clock, logs
from himalia_hub.ending import ENDING
from himalia_hub.groups import store as groups
from himalia_hub.routes import sync
from himalia_hub.servers.state import Phase
from himalia_hub.usage import store as usage
from himalia_proxy.base import Route

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


class OneStray(EmptyProxy):
    """A proxy that has a route of a server long gone."""

    def __init__(self) -> None:
        self.table = {"/user/gone/": Route("/user/gone/", "http://127.0.0.1:9", {"jupyterhub": True})}

    async def put(self, route: Route) -> None:
        self.table[route.routespec] = route

    async def delete(self, routespec: str) -> None:
        self.table.pop(routespec, None)

    async def routes(self) -> dict[str, Route]:
        return self.table


async def test_pasted_names_are_judged_before_any_is_saved(hub: Site, tab: Tab) -> None:
    await hub.person("class-00")
    names = [f"class-{number:02}" for number in range(40)]
    async with tab() as page:
        await page.goto("/hub/admin/people/add")
        await page.get_by_label("User names").fill("\n".join([*names, "class-07", "no/slash"]))
        await page.get_by_label("group").fill("class of 2026")
        await page.get_by_role("button", name="Preview").click()

        await expect(page.get_by_role("heading", name="39 of 42 can be added")).to_be_visible()
        bad = page.locator("[data-line=bad]")
        await expect(bad).to_have_count(3)
        await expect(bad.filter(has_text="class-00")).to_contain_text("exists already")
        await expect(bad.filter(has_text="class-07")).to_contain_text("is in the list twice")
        await expect(bad.filter(has_text="no/slash")).to_contain_text("no slash")
        await page.get_by_role("button", name="Add 39 people").click()
        await expect(page.get_by_role("heading", name="39 people are added")).to_be_visible()
        await expect(page.locator("#links")).to_contain_text("class-39\thttp://")
        await page.get_by_role("link", name="To the list").click()

        await expect(page.get_by_text("1–39 of 39 matching")).to_be_visible()
        await expect(page.get_by_role("searchbox")).to_have_value('group:"class of 2026"')


async def test_who_is_alone_on_a_new_hub_is_told_how_others_come_and_led_to_adding_them(
    tmp_path: Path, chromium: Chromium
) -> None:
    async with site(tmp_path) as hub:
        await hub.person("root", admin=True)
        page = await chromium.new_page(base_url=hub.url)
        await sign_in(page, "root")
        await page.goto("/hub/admin")
        await expect(page.locator("tr[data-row]")).to_have_count(1)
        alone = page.get_by_role("heading", name="Nobody else is here yet")
        await expect(alone).to_be_visible()
        await page.get_by_role("link", name="Add people").last.click()
        await page.get_by_label("User names").fill("ann")
        await page.get_by_role("button", name="Preview").click()
        await page.get_by_label("Make a link for each").uncheck()
        await page.get_by_role("button", name="Add 1 person").click()
        await expect(page.locator("tr[data-row]")).to_have_count(2)
        await expect(alone).to_have_count(0)
        await page.close()


async def test_renaming_is_refused_with_a_reason_while_a_server_runs(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("old-name"), "", RUNNING, Phase.READY)
    async with tab("root", "400 POST") as page:
        await page.goto("/hub/admin/people?name=old-name")
        await page.get_by_label("User name").fill("new-name")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("alert")).to_contain_text("has a running server: stop it, then rename")

        await hub.change(server, desired="stopped", phase=Phase.STOPPED)
        await page.get_by_label("User name").fill("new-name")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("new-name")
        await expect(page.get_by_text("Files kept under")).to_be_visible()
        await expect(page.locator("#name-hint")).to_contain_text(
            "stay theirs too, and where they are: under “old-name”"
        )


async def test_deleting_a_person_says_what_happens_and_wants_their_name(hub: Site, tab: Tab) -> None:
    await hub.person("leaver")
    async with tab("root", "400 POST") as page:
        await page.goto("/hub/admin/people?name=leaver")
        zone = page.get_by_role("region", name="Delete leaver")
        await expect(zone).to_contain_text("files stay")
        await expect(zone).to_contain_text("tokens and shares end at once")
        await zone.get_by_label("Type the name").fill("somebody")
        await zone.get_by_role("button").click()
        await expect(page.get_by_role("alert")).to_contain_text("type the name to confirm")
        await zone.get_by_label("Type the name").fill("leaver")
        await zone.get_by_role("button").click()
        await page.wait_for_url("**/hub/admin")
        await page.goto("/hub/admin?q=owner:leaver")
        await expect(page.get_by_role("heading", name="Nobody found")).to_be_visible()


async def test_groups_are_made_filled_emptied_and_deleted(hub: Site, tab: Tab) -> None:
    for name in ("gil", "gus"):
        await hub.person(name)
    async with tab("root", "400 POST") as page:
        await page.goto("/hub/admin/groups")
        await page.get_by_label("New group").fill("geology")
        await page.get_by_role("button", name="Make it").click()
        group = page.locator("details.group", has_text="geology")
        await group.get_by_label("Add people").fill("gil, gus, gone")
        await group.get_by_role("button", name="Add", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("There is no user 'gone'")
        await group.get_by_label("Add people").fill("gil, gus")
        await group.get_by_role("button", name="Add", exact=True).click()
        await expect(group).to_contain_text("2 members")
        await group.get_by_role("button", name="Take gus out of geology").click()
        await expect(group).to_contain_text("1 member")
        await group.get_by_text("Delete this group").click()
        await group.get_by_label("Type “geology”").fill("geology")
        await group.get_by_role("button", name="Delete the group").click()
        await expect(group).to_have_count(0)


async def test_what_a_groups_members_may_start_is_ticked_and_shows_on_their_home(
    tmp_path: Path, chromium: Chromium
) -> None:
    profiles = [{"name": "small", "default": True}, {"name": "large", "title": "Large", "groups": ["staff"]}]
    async with site(tmp_path, profiles=profiles) as hub:
        root, ann = await hub.person("root", admin=True), await hub.person("ann")
        async with hub.db.begin() as db:
            await groups.add(db, await groups.create(db, "ml"), [ann])
            await groups.create(db, "staff")
        admin, member = [await chromium.new_page(base_url=hub.url) for _ in range(2)]
        await sign_in(admin, root.name)
        await sign_in(member, ann.name)
        choice = member.get_by_role("article").get_by_label("Profile")
        await expect(choice).to_have_count(0)  # there is no choice
        await admin.goto("/hub/admin/groups")
        group, staff = (admin.locator("details.group", has_text=name) for name in ("ml", "staff"))
        await expect(staff.get_by_label("Large by the configuration")).to_be_disabled()
        await expect(group.get_by_label("small for everybody")).to_be_disabled()

        await group.get_by_label("Large").check()
        async with admin.expect_navigation():
            await group.get_by_role("button", name="Set profiles").click()
        await expect(group.get_by_label("Large")).to_be_checked()
        await member.reload()
        await choice.select_option("Large")
        await member.get_by_role("button", name="Start").click()
        await expect(member.get_by_role("progressbar")).to_be_visible()
        row = await hub.row("ann")
        assert row is not None
        assert row.user_options == {"profile": "large"}
        await member.goto("/hub/home")  # while nothing changes: its progress would take the page elsewhere

        await group.get_by_label("Large").uncheck()
        async with admin.expect_navigation():
            await group.get_by_role("button", name="Set profiles").click()
        await expect(group.get_by_label("Large")).not_to_be_checked()
        await hub.change(row, desired="stopped", phase=Phase.STOPPED)
        await expect(member.get_by_role("button", name="Start")).to_be_visible()
        await expect(choice).to_have_count(0)
        for page in (admin, member):
            await page.close()


async def test_the_audit_says_who_did_what_from_where_and_gives_it_as_csv(hub: Site, tab: Tab) -> None:
    await hub.person("audited")
    async with tab() as page:
        await page.goto("/hub/admin?q=audited")
        await expect(page.locator("body[data-live=live]")).to_be_attached()
        await page.get_by_role("button", name="Start the server of audited").click()
        await expect(page.locator("tr[data-name=audited]")).to_have_attribute("data-state", "starting")

        await page.goto("/hub/admin/audit")
        await page.get_by_label("Whose thing").fill("audited")
        await page.get_by_role("button", name="Show").click()
        row = page.get_by_role("row").filter(has_text="POST admin/start")
        for text in ("root", "audited", "127.0.0.1", "done", "request "):
            await expect(row).to_contain_text(text)
        assert await page.locator("table button").count() == 0  # nothing there changes a row
        link = await page.get_by_role("link", name="Download as CSV").get_attribute("href")
        assert link is not None
        assert link.endswith("api/audit?format=csv&target_user=audited")


async def test_the_health_page_has_a_remedy_for_every_finding_that_is_not_good(hub: Site, tab: Tab) -> None:
    async with tab() as page:
        await page.goto("/hub/admin/health")

        await expect(page.locator(".finding").first).to_be_visible()
        for about in ("Disk", "Database", "Open files"):
            await expect(page.get_by_role("heading", name=about, exact=True)).to_be_visible()
        bad = page.locator(".finding:not([data-grade=ok])")
        assert await bad.locator(".remedy").count() == await bad.count()


async def test_what_belongs_to_nobody_is_found_cleared_and_told_with_what_to_do(
    tmp_path: Path, chromium: Chromium
) -> None:
    proxy = OneStray()
    async with hub_site.site(tmp_path, proxy_client=proxy) as hub:
        await hub.person("root", admin=True)
        hub.world.looks.orphans, hub.world.looks.found = clock.now(), ["server", "folder", "token"]
        await sync.check(hub.world)
        assert proxy.table.keys() == {"/"}
        page = await chromium.new_page(base_url=hub.url)
        await sign_in(page, "root")
        await page.goto("/hub/admin/health")
        for about, said in (
            ("Routes", "1 that led to no server was removed"),
            ("Orphans", "without a row: servers 1, folders 1, tokens 1"),
        ):
            finding = page.locator(".finding", has=page.get_by_role("heading", name=about, exact=True))
            await expect(finding).to_contain_text(said)
            await expect(finding.locator(".remedy")).to_contain_text("nothing")
        await page.close()


async def test_shutting_down_wants_the_words_and_the_page_comes_back_by_itself(
    tmp_path: Path, chromium: Chromium
) -> None:
    async with site(tmp_path) as first:
        await first.person("root", admin=True)
        context = await chromium.new_context(base_url=first.url)
        page = await context.new_page()
        await sign_in(page, "root")
        await page.goto("/hub/admin/shutdown")
        await page.get_by_label("Stop them all").check()
        await page.get_by_label("to confirm").fill("yes")
        await page.get_by_role("button", name="Shut down").click()
        await expect(page.get_by_role("alert")).to_contain_text("to confirm")
        assert not first.app[ENDING].wished.is_set()
        await page.get_by_label("to confirm").fill("shut down")
        await page.get_by_role("button", name="Shut down").click()

        await expect(page.get_by_role("heading", name="The hub is down")).to_be_visible()
        assert first.app[ENDING].wished.is_set()
        assert (first.app[ENDING].servers, first.app[ENDING].proxy) == (True, False)
        port = int(first.url.rpartition(":")[2])
    async with page.expect_event("requestfailed"):
        pass
    async with site(tmp_path, at_port=port):
        await page.wait_for_url(re.compile("/hub/admin$"))
        await context.close()


async def test_opening_somebodys_server_goes_by_a_page_that_says_it_is_recorded(hub: Site, tab: Tab) -> None:
    await hub.server(await hub.person("visited"), "", RUNNING, Phase.READY)
    async with tab() as page:
        await page.goto("/hub/admin?q=visited")
        await page.get_by_role("link", name="Open").click()
        await expect(page.get_by_role("heading", name="Open the server of visited?")).to_be_visible()
        await expect(page.get_by_text("This visit is recorded")).to_be_visible()
        await expect(page.get_by_role("link", name="Open it")).to_have_attribute(
            "href", re.compile("/user/visited/")
        )


async def test_the_log_is_found_by_person_and_request_and_shows_no_secret(hub: Site, tab: Tab) -> None:
    for event in (
        {"event": "server.ready", "level": "info", "user": "logged", "request_id": "r1"},
        {
            "event": "odd",
            "level": "error",
            "user": "logged",
            "request_id": "r2",
            "text": f"?token={'s3cr3t' * 5}",
        },
    ):
        stamped = {"timestamp": "2026-11-28T18:00:00.123Z", **event}
        logs.remember(None, "", logs.mask_secrets(None, "", stamped))
    async with tab() as page:
        await page.goto("/hub/admin/logs")
        await page.get_by_label("About whom").fill("logged")
        await page.get_by_role("button", name="Show").click()
        lines = page.locator("tbody tr")
        await expect(lines).to_have_count(2)
        await lines.filter(has_text="odd").get_by_role("link", name="r2").click()
        await expect(lines).to_have_count(1)
        await expect(lines).to_contain_text("odd")
        assert "s3cr3t" not in await page.content()


async def test_the_usage_of_a_month_is_what_its_csv_adds_up_to(hub: Site, tab: Tab) -> None:
    server = await hub.server(await hub.person("busy"), "", RUNNING, Phase.READY)
    now = clock.now()
    server.started = now - timedelta(hours=2)
    await hub.db.write(lambda db: usage.record_life(db, server, until=now))
    async with tab() as page:
        await page.goto(f"/hub/admin/usage?period=month&on={(now - timedelta(hours=2)).date().isoformat()}")
        async with page.expect_download() as coming:
            await page.get_by_role("link", name="Download as CSV").click()
        path = await (await coming.value).path()
        listed = list(csv.DictReader(Path(path).read_text().splitlines()))
        hours = {line["name"]: float(line["server_hours"]) for line in listed}
        assert hours["busy"] > 0
        await expect(page.get_by_role("row", name="busy")).to_be_visible()
        total = await page.get_by_role("row", name="All").locator("td").first.text_content()
        assert abs(float(total or 0) - sum(hours.values())) < 0.05 * len(hours)
