"""Culling on rows of both databases, with a clock that the test sets; and what pages say of it."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Answer, Client, Site, site
from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.db import lease
from himalia_hub.groups import store as groups
from himalia_hub.servers import awake, store
from himalia_hub.servers.cull import cull, run
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.tokens import store as tokens
from himalia_hub.usage import store as usage
from himalia_hub.users.models import User

SERVER = "/hub/api/users/ann/server"
CULL = {"idle_s": 3600, "groups": {"patient": {"idle_s": 0, "max_age_s": 28800}}}


class Clock:
    """Time that only moves when told."""

    def __init__(self) -> None:
        self.at = clock.now()

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **span: float) -> None:
        self.at += timedelta(**span)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(clock, "now", moved)
    return moved


@pytest.fixture
async def hub(tmp_path: Path, database_url: str, time: Clock) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url, cull=CULL) as running:
        yield running


@pytest.fixture
async def ann(hub: Site) -> User:
    return await hub.person("ann")


@pytest.fixture
async def browser(hub: Site, ann: User) -> AsyncIterator[Client]:
    async with hub.client() as client:
        assert (await client.login("ann")).status == 302
        yield client


async def running(hub: Site, user: User, name: str = "") -> int:
    server = await hub.server(user, name)
    async with hub.db.begin() as db:
        row = await db.get(Server, server.id)
        assert row is not None
        row.started = row.last_activity = clock.now()
    return server.id


async def read(hub: Site, server_id: int) -> Server:
    async with hub.db.read() as db:
        row = await db.get(Server, server_id)
    assert row is not None
    return row


async def at_rest(hub: Site, server_id: int) -> None:
    """What the loop records once it is gone; nobody works on the rows here."""
    async with hub.db.begin() as db:
        row = await db.get(Server, server_id)
        assert row is not None
        row.phase, row.due_at = Phase.STOPPED, None


async def test_a_server_is_stopped_by_the_ordinary_wish_when_its_time_is_over_and_not_before(
    hub: Site, ann: User, time: Clock
) -> None:
    server = await running(hub, ann)

    time.forward(minutes=59)
    assert await cull(hub.world) == []
    time.forward(minutes=1)
    assert await cull(hub.world) == [server]

    row = await read(hub, server)
    assert (row.desired, row.due_at, row.generation) == (Desired.STOPPED, clock.now(), 2)
    assert await cull(hub.world) == []  # once is enough
    async with hub.db.read() as db:
        told = (await db.scalars(sa.select(AuditRow))).one()
    assert (told.actor, told.action, told.target_user) == ("himalia/hub", "cull", "ann")
    assert told.change == {"after": {"why": "idle for 60 minutes"}}


async def test_what_the_machine_slept_through_is_nobodys_idleness(hub: Site, ann: User, time: Clock) -> None:
    used, beginning = await running(hub, ann), await hub.server(ann, "new", phase=Phase.STARTING)
    began = (await read(hub, beginning.id)).phase_since
    await awake.look(hub.world)
    for _ in range(2):
        time.forward(minutes=50)
        await awake.look(hub.world)

    assert await cull(hub.world) == []
    assert (await read(hub, beginning.id)).phase_since == began + timedelta(minutes=100)
    for _ in range(180):
        time.forward(seconds=20)
        await awake.look(hub.world)
    assert await cull(hub.world) == [used], "an hour in which somebody could have been at work"


async def test_when_the_clock_is_put_back_nothing_waits_for_the_time_it_showed(
    hub: Site, ann: User, time: Clock
) -> None:
    server = await hub.server(ann, desired=Desired.RUNNING, phase=Phase.STARTING)
    await awake.look(hub.world)
    async with hub.db.begin() as db:
        row = await db.get(Server, server.id)
        row.due_at = row.lease_until = clock.now() + timedelta(seconds=3)
        row.lease_owner = "killed"

    time.forward(hours=-1)
    await awake.look(hub.world)

    row = await read(hub, server.id)
    assert (row.due_at, row.lease_until, row.lease_owner) == (clock.now(), None, None)


async def test_a_report_of_use_puts_the_end_off(hub: Site, ann: User, time: Clock) -> None:
    server = await running(hub, ann)
    time.forward(minutes=50)
    async with hub.client(await hub.token(ann)) as client:
        said = {"servers": {"": {"last_activity": clock.iso(clock.now())}}}
        assert (await client("POST", "/hub/api/users/ann/activity", json=said)).status == 200

    time.forward(minutes=59)

    assert await cull(hub.world) == []
    time.forward(minutes=1)
    assert await cull(hub.world) == [server]


async def test_only_a_running_server_is_stopped(hub: Site, ann: User, time: Clock) -> None:
    await hub.server(ann, "going", desired=Desired.STOPPED, phase=Phase.STOPPING)
    await hub.server(ann, "coming", desired=Desired.RUNNING, phase=Phase.STARTING)
    used = await running(hub, ann, "used")

    time.forward(days=9)

    assert await cull(hub.world) == [used]


async def test_a_groups_limits_take_the_place_of_everybodys(hub: Site, ann: User, time: Clock) -> None:
    async with hub.db.begin() as db:
        await groups.add(db, await groups.create(db, "patient"), [ann])
    server = await running(hub, ann)

    time.forward(hours=7)
    assert await cull(hub.world) == []
    time.forward(hours=1)
    assert await cull(hub.world) == [server]


async def test_the_page_counts_down_and_a_button_without_script_puts_it_off(
    hub: Site, ann: User, browser: Client, time: Clock
) -> None:
    server = await running(hub, ann)
    time.forward(minutes=45)
    home = await browser("GET", "/hub/home")
    assert ">in 15 min</time> unless used" in home.text

    kept = await browser("POST", "/hub/home/keep", data={"_xsrf": home.xsrf, "server": ""})

    assert (kept.status, kept.location) == (303, "/hub/home")
    assert ">in 1 h</time> unless used" in (await browser("GET", "/hub/home")).text
    time.forward(minutes=59)
    assert await cull(hub.world) == []
    assert (await read(hub, server)).desired is Desired.RUNNING


async def test_keep_alive_lasts_an_hour_though_the_idle_limit_is_shorter(tmp_path: Path, time: Clock) -> None:
    async with site(tmp_path, cull={"idle_s": 600, "keep_alive_s": 3600}) as hub:
        ann = await hub.person("ann")
        server = await running(hub, ann)
        async with hub.client(await hub.token(ann)) as client:
            assert (await client("GET", f"{SERVER}/stop-time")).json["in_s"] == 600

            kept = await client("POST", f"{SERVER}/keep-alive")

            assert kept.json == {
                "stops_at": clock.iso(time.at + timedelta(hours=1)), "in_s": 3600,
                "why": "idle for 10 minutes", "can_keep_alive": True,
            }  # fmt: skip
            assert (await client("GET", f"{SERVER}/stop-time")).json == kept.json
        time.forward(minutes=59)
        assert await cull(hub.world) == []
        time.forward(minutes=1)
        assert await cull(hub.world) == [server]


async def test_a_server_keeps_itself_alive_and_no_other(hub: Site, ann: User, time: Clock) -> None:
    first, second = await running(hub, ann), await running(hub, ann, "second")
    token = hub.world.secrets.server_token(first, "life")
    async with hub.db.begin() as db:
        await db.run_sync(
            lambda sync: tokens.put_server_token(
                sync,
                user_id=ann.id,
                server_id=first,
                incarnation="life",
                secret=token,
                prefix="/user/ann/",
                now=clock.now(),
            )
        )
    async with hub.client(token) as client:
        assert (await client("POST", f"{SERVER}/keep-alive")).status == 200
        assert (await client("POST", f"{SERVER}s/second/keep-alive")).status == 404
        assert (await client("GET", f"{SERVER}s/second/stop-time")).status == 404
        assert (await client("GET", f"{SERVER}s/none/stop-time")).status == 404

    assert (await read(hub, first)).kept_alive_until is not None
    assert (await read(hub, second)).kept_alive_until is None
    async with hub.db.read() as db:
        rows = list(await db.scalars(sa.select(AuditRow).where(AuditRow.action.contains("keep-alive"))))
    assert [(row.target_user, row.status) for row in rows] == [("ann", 200), ("ann", 404)]


async def test_five_minutes_before_its_end_a_card_says_so(
    hub: Site, ann: User, browser: Client, time: Clock
) -> None:
    await running(hub, ann)
    time.forward(minutes=54)
    assert " hidden" in banner(await browser("GET", "/hub/home"))

    time.forward(minutes=2)

    assert "hidden" not in banner(await browser("GET", "/hub/home"))


def banner(answer: Answer) -> str:
    """The opening tag of the card's banner."""
    found = re.search("<p class=.notice notice-warning soon.[^>]*>", answer.text)
    assert found is not None
    return found[0]


async def test_age_cannot_be_put_off(hub: Site, ann: User, browser: Client) -> None:
    async with hub.db.begin() as db:
        await groups.add(db, await groups.create(db, "patient"), [ann])
    await running(hub, ann)

    home = await browser("GET", "/hub/home")

    assert ">in 8 h</time>" in home.text
    assert "unless used" not in home.text
    assert "Keep alive" not in home.text


async def test_nobody_keeps_a_server_alive_from_elsewhere_or_one_that_is_not_there(
    hub: Site, ann: User, browser: Client, time: Clock
) -> None:
    server = await running(hub, ann)
    before = (await read(hub, server)).last_activity
    time.forward(minutes=5)
    home = await browser("GET", "/hub/home")

    forged = await browser("POST", "/hub/home/keep", data={"server": ""})
    missing = await browser("POST", "/hub/home/keep", data={"_xsrf": home.xsrf, "server": "none"})

    assert (forged.status, missing.status) == (403, 404)
    assert (await read(hub, server)).last_activity == before


async def test_the_page_says_why_until_the_next_wish(
    hub: Site, ann: User, browser: Client, time: Clock
) -> None:
    server = await running(hub, ann)
    time.forward(minutes=60)
    await cull(hub.world)
    await at_rest(hub, server)
    assert "Stopped: idle for 60 minutes. Your files are kept." in (await browser("GET", "/hub/home")).text

    async with hub.db.begin() as db:
        row = await store.want_running(db, ann, "", options=None, now=clock.now())
        await store.want_stopped(db, row, now=clock.now())
    await at_rest(hub, server)

    assert "Stopped: idle" not in (await browser("GET", "/hub/home")).text


async def test_when_the_hours_of_a_group_are_used_up_its_servers_stop_as_their_people_were_told(
    tmp_path: Path, database_url: str, time: Clock
) -> None:
    time.at = time.at.replace(day=10)
    async with site(tmp_path, database_url, quotas={"groups": {"ml": {"server_hours": 4}}}) as hub:
        ann, ben, cid = [await hub.person(name) for name in ("ann", "ben", "cid")]
        async with hub.db.begin() as db:
            await groups.add(db, await groups.create(db, "ml"), [ann, ben])
        first, second, _ = [await running(hub, user) for user in (ann, ben, cid)]
        time.forward(minutes=116)
        async with hub.client(await hub.token(ann)) as client:
            told = (await client("GET", f"{SERVER}/stop-time")).json
        async with hub.client() as browser:
            await browser.login("ann")
            home = await browser("GET", "/hub/home")
            await hub.person("root", admin=True)
            async with hub.client() as root:
                await root.login("root")
                seen = await root("GET", "/hub/admin/use?on=ann/")
            assert await cull(hub.world) == []

            time.forward(minutes=4)
            assert await cull(hub.world) == [first, second]

            await at_rest(hub, first)
            after = await browser("GET", "/hub/home")
    why = "the 4 server-hours of the group 'ml' are used up"
    assert (told["in_s"], told["why"], told["can_keep_alive"]) == (240, why, False)
    assert "hidden" not in banner(home)
    assert ">in 4 min</time>, when hours are used up" in home.text
    assert f">in 4 min</time>: {why}." in html.unescape(seen.text), (
        "administrators see the end that comes first, too"
    )
    assert f"Stopped: {why}. Your files are kept." in html.unescape(after.text)


async def test_hours_that_were_limited_over_the_api_only_refuse_starts_where_the_site_wants_it_so(
    tmp_path: Path, time: Clock
) -> None:
    time.at = time.at.replace(day=10)
    async with site(tmp_path, spawner={"mem_limit": "1G"}) as hub:
        ann = await hub.person("ann")
        async with hub.db.begin() as db:
            await usage.set_quota(db, ann, {"memory_hours": 2})
        small, unlimited = await running(hub, ann), await running(hub, ann, "unlimited")
        async with hub.db.begin() as db:
            (await db.get_one(Server, small)).memory_reserved = 2**30
        time.forward(hours=2)
        mild = hub.world.settings.quotas.model_copy(update={"when_used_up": "refuse_starts"})
        as_was = hub.world.settings

        hub.world.settings = as_was.model_copy(update={"quotas": mild})
        assert await cull(hub.world) == []
        hub.world.settings = as_was
        assert await cull(hub.world) == [small], "the other one uses up no memory-hours"
        assert (await read(hub, unlimited)).desired is Desired.RUNNING


async def test_without_limits_the_page_promises_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as hub:
        await running(hub, await hub.person("ann"))
        async with hub.client() as client:
            await client.login("ann")
            home = await client("GET", "/hub/home")
        assert await cull(hub.world) == []
    assert "<dt>Up for</dt>" in home.text
    assert "<dt>Stops</dt>" not in home.text


async def test_after_the_database_was_away_nobody_is_idle_before_their_server_could_say_otherwise(
    hub: Site, ann: User, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await running(hub, ann)
    time.forward(hours=2)
    wishes = []

    async def pause(_: object) -> None:
        wishes.append((await read(hub, server)).desired)
        if len(wishes) == 4:
            raise StopAsyncIteration

    async def take(*_: object, **__: object) -> bool:
        if len(wishes) == 1:
            raise OSError("no database")
        return True

    monkeypatch.setattr(hub.world.pace, "pause", pause)
    monkeypatch.setattr(lease, "take", take)
    with pytest.raises(StopAsyncIteration):
        await run(hub.world, "this hub")

    running_, stopped = Desired.RUNNING, Desired.STOPPED
    assert wishes == [running_, running_, running_, stopped], "at the second look that found a database"
