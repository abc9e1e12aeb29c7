"""The administrators' list."""

from __future__ import annotations

from component.hub.pages_site import RUNNING, Browser, Site
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User

EVIL = "<script>alert(1)<script>"  # a slash cannot be in a name


# ------------------------------------------------------------------ frame


# ------------------------------------------------------------------ home


async def test_the_admin_page_is_for_admins(browser: Browser) -> None:
    page, form = (
        await browser.get("/hub/admin"),
        await browser.post("/hub/admin/stop", {"only": "ann/"}),
    )

    assert (page.status, form.status) == (403, 403)
    assert 'href="/hub/admin"' not in page.text


async def test_the_admin_list_finds_pages_and_stays_where_it_was(hub: Site, admin: Browser) -> None:
    for number in range(120):
        await hub.person(f"student{number:03}")

    first = await admin.get("/hub/admin?q=STUDENT")
    third = await admin.get("/hub/admin?q=student&page=3")
    beyond = await admin.get("/hub/admin?page=99")
    nobody = await admin.get("/hub/admin?q=100%25_")

    assert "1–50 of 120" in first.text
    assert 'href="/hub/admin?q=student&amp;page=2"' in third.text
    assert "101–120 of 120" in third.text
    assert "This page is empty" in beyond.text
    assert "Nobody found" in nobody.text
    answer = await admin.post("/hub/admin/start", {"only": "student119/", "q": "student", "page": "3"})
    assert (answer.status, answer.location) == (303, "/hub/admin?q=student&page=3")
    row = await hub.row("student119")
    assert row and row.desired is Desired.RUNNING


async def test_an_admin_stops_somebodys_server(hub: Site, ann: User, admin: Browser) -> None:
    await hub.server(ann, "thesis", RUNNING, Phase.READY)

    answer = await admin.post("/hub/admin/stop", {"only": "ann/thesis"})

    assert answer.status == 303
    row = await hub.row("ann", "thesis")
    assert row and row.desired is Desired.STOPPED


async def test_two_admins_stopping_the_same_server_both_succeed(hub: Site, ann: User, admin: Browser) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY)

    answers = [await admin.post("/hub/admin/stop", {"only": "ann/"}) for _ in range(2)]

    assert [answer.status for answer in answers] == [303, 303]
    row = await hub.row("ann")
    assert row and row.generation == 2
