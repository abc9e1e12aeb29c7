"""What administrators see of links, and do about them; the words of a ban reach whoever waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub import hub_site
from component.hub.link_rows import KEY, some
from component.hub.pages_site import Browser, Site
from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.ephemeral import bans, warmth
from himalia_hub.ephemeral.models import Environment, Launch, LinkBan, Stage
from himalia_hub.ephemeral.settings import EphemeralSection

PAGE = "/hub/admin/links"
BAN = {"does": "ban", "repository": "gh/bob/course", "why": "It mines <coins>"}


@pytest.fixture
async def launches(hub: Site) -> AsyncIterator[list[Launch]]:
    async with hub.db.begin() as db:
        made = await some(db)
    yield made


async def stages(hub: Site) -> list[Stage]:
    async with hub.db.read() as db:
        return list(await db.scalars(sa.select(Launch.stage).order_by(Launch.id)))


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/Bob/Course.git",
        "http://github.com/bob/course/",
        "git://GitHub.com/bob/course.git/",
    ],
)
def test_a_repository_is_one_under_all_its_names(url: str) -> None:
    assert bans.address_of(url) == "github.com/bob/course"


async def test_the_page_shows_who_waits_what_is_built_and_what_is_kept(
    launches: list[Launch], admin: Browser, browser: Browser
) -> None:
    page, log = await admin.get(PAGE), await admin.get(f"{PAGE}/environments/{KEY}")
    part = await admin.get(PAGE, **{"X-Himalia-Fragment": "1"})
    stranger, unknown = await browser.get(PAGE), await admin.get(f"{PAGE}/environments/none")

    assert "1 running of at most 20, 1 in the queue, 1 of at most 2 being built" in page.text
    assert "Queued, number 1" in page.text
    assert "nobody yet" in page.text
    assert "312.0 MB" in page.text
    assert "Being built" in log.text
    assert "Downloading &lt;numpy&gt; 50 %" in log.text
    assert "<html" not in part.text
    assert part.text.count("<tr>") == page.text.partition('id="warm"')[0].count("<tr>")
    assert (stranger.status, unknown.status) == (403, 404)


async def test_a_ban_ends_who_waits_with_its_words_and_leaves_sessions_unless_told(
    hub: Site, launches: list[Launch], admin: Browser
) -> None:
    answer = await admin.post(PAGE, BAN)

    assert (answer.status, answer.location) == (303, PAGE)
    assert await stages(hub) == [Stage.READY, Stage.ENDING, Stage.ENDING, Stage.ENDING]
    async with hub.db.read() as db:
        failures = list(await db.scalars(sa.select(Launch.failure).order_by(Launch.id)))
        rows = list(await db.scalars(sa.select(AuditRow).where(AuditRow.target == "github.com/bob/course")))
    assert failures[1]["message"] == "This hub does not open bob/course: It mines <coins>"
    assert [row.actor for row in rows] == ["root"]
    again = await admin.post(PAGE, BAN)
    assert again.status == 400
    assert "banned already" in again.text
    assert "It mines &lt;coins&gt;" in again.text

    ended = await admin.post(
        PAGE, {**BAN, "repository": "https://github.com/ann/notebooks", "running": "yes"}
    )
    assert ended.status == 303
    assert await stages(hub) == [Stage.ENDING] * 4
    async with hub.db.read() as db:
        number = await db.scalar(sa.select(LinkBan.id).where(LinkBan.label == "bob/course"))
    assert (await admin.post(PAGE, {"does": "lift", "id": str(number)})).status == 303
    async with hub.db.read() as db:
        assert [one.label for one in await bans.every(db)] == ["github.com/ann/notebooks"]


async def test_an_environment_is_marked_for_clearing_and_a_launch_ended(
    hub: Site, launches: list[Launch], admin: Browser
) -> None:
    assert (await admin.post(PAGE, {"does": "clear", "key": "a" * 64})).status == 303
    assert (await admin.post(PAGE, {"does": "end", "id": str(launches[0].id)})).status == 303

    async with hub.db.read() as db:
        assert list(await db.scalars(sa.select(Environment.key).where(Environment.unwanted))) == ["a" * 64]
        launch = await db.get_one(Launch, launches[0].id)
        assert (launch.stage, launch.ended_because) == (Stage.ENDING, "ended by root")
    for form in ({"does": "clear", "key": "none"}, {"does": "end", "id": str(launches[0].id)}):
        assert (await admin.post(PAGE, form)).status == 404
    for form in ({"does": "end", "id": "x"}, {"does": "fly"}, {"does": "ban", "repository": "course"}):
        assert (await admin.post(PAGE, form)).status == 400


async def test_how_many_sessions_are_warm_is_said_for_all_and_for_one_link(
    hub: Site, launches: list[Launch], admin: Browser
) -> None:
    link = {"does": "warm", "provider": "gh", "spec": "ann/notebooks/HEAD"}
    assert "Set by" not in (await admin.get(PAGE)).text

    for form in ({"does": "warm", "most": "4"}, {**link, "least": "2", "most": "3"}):
        assert (await admin.post(PAGE, form)).status == 303

    page = (await admin.get(PAGE)).text
    assert "1 warm of at most 4" in page
    assert "Set by <bdi>root</bdi>" in page
    async with hub.db.read() as db:
        warm = await warmth.read(db, EphemeralSection())
        told = list(await db.scalars(sa.select(AuditRow).where(AuditRow.target == "gh/ann/notebooks/HEAD")))
    assert (warm.total, warm.of("gh", "ann/notebooks/HEAD")) == (4, warmth.Bounds(2, 3, "root"))
    assert [(row.actor, row.change) for row in told] == [
        ("root", {"after": {"warm": {"least": 2, "most": 3}}})
    ]
    for wrong in ({"least": "5", "most": "3"}, {"least": "x"}, {"most": "-1"}, {"most": "100000"}):
        refused = await admin.post(PAGE, {**link, **wrong})
        assert refused.status == 400, wrong
    assert (await admin.post(PAGE, {**link, "provider": "none", "most": "1"})).status == 400

    for form in ({"does": "warm", "most": ""}, {**link, "least": "", "most": ""}):
        assert (await admin.post(PAGE, form)).status == 303
    async with hub.db.read() as db:
        assert (await warmth.read(db, EphemeralSection())).said == {}


async def test_a_banned_repository_is_refused_by_every_name_on_either_database(
    tmp_path: Path, database_url: str
) -> None:
    events = {"Accept": "text/event-stream"}
    async with hub_site.site(tmp_path, database_url, ephemeral={"open_to": "everybody"}) as hub:
        await hub.person("root", admin=True)
        url = "https://github.com/bob/course.git"
        async with hub.db.begin() as db:
            await bans.ban(db, url, "bob/course", "no", author="root", now=clock.now(), running=False)
        async with hub.client() as anybody:
            for name in ("gh/bob/course/HEAD", "git/https%3A%2F%2FGitHub.com%2Fbob%2Fcourse/main"):
                answer = await anybody("GET", f"/build/{name}", headers=events)
                assert '"failed": true' in answer.text
                assert "does not open bob/course: no" in answer.text
