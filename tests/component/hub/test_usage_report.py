"""What is added up is every life once: those that ended, and those that go on."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site
from himalia_hub.groups import store as groups
from himalia_hub.rbac.models import Role, RoleAssignment
from himalia_hub.servers.models import Server
from himalia_hub.usage import report
from himalia_hub.usage import store as usage
from himalia_hub.usage.report import Span

NOW = datetime(2026, 11, 18, 15, tzinfo=UTC)  # a Wednesday
GIB = 2**30


@pytest.fixture
async def hub(hub_on_each: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Four lives: ann's over a midnight and her present one, ben's last week, cleo's of last month."""
    hub, lives = hub_on_each, {}
    for name, began, hours, memory in (
        ("ann", NOW - timedelta(hours=20), 10, 2 * GIB),
        ("ben", NOW - timedelta(days=7), 3, GIB),
        ("cleo", NOW - timedelta(days=30), 5, GIB),
    ):
        server = await hub.server(await hub.person(name))
        server.started, server.memory_reserved = began, memory
        lives[name] = server.id
        until = began + timedelta(hours=hours)
        await hub.db.write(lambda db: usage.record_life(db, server, until=until))  # noqa: B023
    async with hub.db.begin() as db:
        ml = await groups.create(db, "ml")
        await groups.add(db, ml, await groups.people(db, ["ann", "ben"]))
        going_on = {"started": NOW - timedelta(hours=2), "memory_reserved": GIB}
        await db.execute(sa.update(Server).where(Server.id == lives["ann"]).values(going_on))
    monkeypatch.setattr("himalia_hub.clock.now", lambda: NOW)
    return hub


@pytest.fixture
async def root(hub: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    await hub.person("root", admin=True)
    async with hub.client() as client:
        assert (await client.login("root")).status == 302
        yield client


async def rows(client: Client, query: str) -> dict[str, tuple[float, float]]:
    answer = await client("GET", f"/hub/admin/usage.csv?{query}")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = csv.DictReader(answer.text.splitlines())
    return {line["name"]: (float(line["server_hours"]), float(line["memory_gib_hours"])) for line in lines}


async def test_the_csv_is_the_sum_of_all_lives_by_day_week_and_month(root: Client) -> None:
    assert await rows(root, "period=day") == {"ann": (7.0, 12.0)}
    assert await rows(root, "period=day&on=2026-11-17") == {"ann": (5.0, 10.0)}
    assert await rows(root, "period=week") == {"ann": (12.0, 22.0)}
    assert await rows(root, "period=week&on=2026-11-11") == {"ben": (3.0, 3.0)}
    assert await rows(root, "period=month") == {"ann": (12.0, 22.0), "ben": (3.0, 3.0)}
    assert await rows(root, "period=month&on=2026-10-01") == {"cleo": (5.0, 5.0)}
    assert await rows(root, "period=month&by=group") == {"ml": (15.0, 25.0)}
    assert await rows(root, "period=day&by=group&on=2026-10-20") == {}


async def test_the_page_shows_the_most_first_its_total_and_leads_to_the_csv(root: Client) -> None:
    page = (await root("GET", "/hub/admin/usage?period=month")).text

    assert "<h2>2026-11-01 to 2026-11-30 <" in page
    assert page.index("<bdi>ann</bdi>") < page.index("<bdi>ben</bdi>")
    assert '<td class="figure strong" data-label="Server-hours">15.00</td>' in page
    assert 'href="/hub/admin/usage.csv?by=person&amp;period=month&amp;on=2026-11-18"' in page
    assert "2026-11-11: 3.0 h" in page
    assert "Nothing was used" in (await root("GET", "/hub/admin/usage?period=day&on=2020-01-01")).text
    assert "ann" in (await root("GET", "/hub/admin/usage?period=year&on=2999-13-99&by=cat")).text


async def test_days_without_use_are_there_and_home_shows_ones_own(hub: Site, root: Client) -> None:
    span = Span(datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC), NOW)
    async with hub.db.read() as db:
        days = await report.by_days(db, span)
    assert [hours for _, hours in days] == [0.0, 5.0, 7.0]  # tomorrow has not begun

    assert "Your usage" not in (await root("GET", "/hub/home")).text  # who used nothing is told nothing
    async with hub.client() as ann:
        await ann.login("ann")
        home = (await ann("GET", "/hub/home")).text
    assert "12.0 server-hours in the last 30 days" in home
    assert "2026-11-17: 5.0 h" in home


async def test_who_runs_one_group_reads_the_use_of_its_members_only(hub: Site) -> None:
    tutor = await hub.person("tutor")
    async with hub.db.begin() as db:
        chess = await groups.create(db, "chess")
        await groups.add(db, chess, await groups.people(db, ["ben"]))
        scopes = ["admin-ui", "list:users!group=chess", "read:users!group=chess", "read:groups!group=chess"]
        role = Role(name="tutor", description="", scopes=scopes)
        db.add(role)
        await db.flush()
        db.add(RoleAssignment(role_id=role.id, user_id=tutor.id))
    async with hub.client() as client:
        await client.login("tutor")
        assert await rows(client, "period=month") == {"ben": (3.0, 3.0)}
        assert await rows(client, "period=month&by=group") == {"chess": (3.0, 3.0)}
        page = (await client("GET", "/hub/admin/usage?period=month")).text
    assert "ann" not in page
    assert "bars" not in page  # a picture of everybody's hours
