"""What servers use, from the spawner to rows and pages, on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Site
from himalia_hub import clock
from himalia_hub.measures.models import ServerUse, ServerUseMinute
from himalia_hub.measures.work import Sampler, measure, run
from himalia_hub.pages.admin.listing import Wanted, counts, page_of
from himalia_hub.pages.admin.query import parse
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User
from himalia_spawner.base import Handle, Measure, ServerRef
from himalia_spawner.fake import FakeServer
from support import eventually

GB = 2**30


@pytest.fixture
def hub(hub_on_each: Site) -> Site:
    return hub_on_each


async def runs(hub: Site, name: str, *, memory: int) -> Server:
    server = await hub.server(await hub.person(name))
    handle = Handle(ServerRef(server.backend_name, "1"), "http://127.0.0.1:9")
    hub.world.spawner.backend.servers[server.backend_name] = FakeServer(handle, {}, use=Measure(memory, 1.0))
    async with hub.db.begin() as db:
        started = clock.now() - timedelta(minutes=5)
        await db.execute(sa.update(Server).where(Server.id == server.id).values(started=started))
    return server


async def names(hub: Site, text: str, sort: str = "user") -> list[str]:
    async with hub.db.read() as db:
        page = await page_of(db, Wanted(parse(text), sort), now=clock.now(), offset=0, limit=9)
    return [line[1] for line in page.lines]


async def test_what_runs_is_measured_found_and_sorted_by_and_what_does_not_run_is_not(hub: Site) -> None:
    big, small = await runs(hub, "big", memory=3 * GB), await runs(hub, "small", memory=GB // 4)
    await hub.person("nothing")
    stopped = await runs(hub, "stopped", memory=9 * GB)

    await measure(hub.world, Sampler())
    async with hub.db.begin() as db:
        values = {"phase": Phase.STOPPED, "desired": Desired.STOPPED}
        await db.execute(sa.update(Server).where(Server.id == stopped.id).values(values))

    assert await names(hub, "mem:>2G") == ["big"]
    assert await names(hub, "mem:<1G") == ["small"]
    assert await names(hub, "cpu:>0.5") == []
    assert await names(hub, "", "-memory") == ["big", "small", "nothing", "stopped"]
    async with hub.db.read() as db:
        used = dict((await db.execute(sa.select(ServerUse.server_id, ServerUse.memory))).all())
    assert used == {big.id: 3 * GB, small.id: GB // 4, stopped.id: 9 * GB}


async def test_a_deleted_server_is_no_trouble_and_a_new_life_does_not_show_the_old_figure(hub: Site) -> None:
    ann, bob = await runs(hub, "ann", memory=2 * GB), await runs(hub, "bob", memory=2 * GB)
    await measure(hub.world, Sampler())
    async with hub.db.begin() as db:
        await db.execute(sa.delete(Server).where(Server.id == bob.id))
        later = clock.now() + timedelta(seconds=1)
        await db.execute(sa.update(Server).where(Server.id == ann.id).values(started=later))

    assert await names(hub, "mem:>1G") == []
    assert await hub.count(ServerUse) == 1  # bob's went with his server


async def test_the_last_hour_is_kept_and_no_more(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, sampler, began = await runs(hub, "ann", memory=GB), Sampler(), clock.now()
    for minute in range(70):
        monkeypatch.setattr("himalia_hub.clock.now", lambda: began + timedelta(minutes=minute))  # noqa: B023
        monkeypatch.setattr("time.monotonic", lambda: 60.0 * minute)  # noqa: B023
        await measure(hub.world, sampler)

    async with hub.db.read() as db:
        points = list(await db.scalars(sa.select(ServerUseMinute.at).order_by(ServerUseMinute.at)))
    assert len(points) == 61
    assert points[-1] - points[0] == timedelta(hours=1)
    assert ann.id


async def test_a_server_that_has_just_started_is_measured_twice_without_waiting_for_the_next_turn(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("himalia_hub.measures.work.SOON_S", 0.05)
    hub.world.spawner.node = "here"
    turns = asyncio.create_task(run(hub.world, "me"))
    try:
        await eventually(lambda: hub.world.doorbell._listeners)
        server = await runs(hub, "ann", memory=GB)
        async with hub.db.begin() as db:
            await db.execute(sa.update(Server).values(node="here"))
        hub.world.doorbell.settle(server.id)

        async def has_both() -> bool:
            async with hub.db.read() as db:
                use = await db.get(ServerUse, server.id)
            return use is not None and use.memory == GB and use.cpus is not None

        await eventually(has_both, within_s=30)
    finally:
        turns.cancel()
        await asyncio.gather(turns, return_exceptions=True)
    assert not hub.world.doorbell._listeners


async def test_home_and_the_list_show_figures_and_the_last_hour(hub: Site) -> None:
    server = await runs(hub, "ann", memory=GB // 2)
    await hub.person("root", admin=True)
    await measure(hub.world, Sampler())
    async with hub.db.begin() as db:
        for minutes in (3, 2, 1):
            at = clock.now() - timedelta(minutes=minutes)
            db.add(ServerUseMinute(server_id=server.id, at=at, memory=minutes * GB, cpus=0.25))

    async with hub.client() as ann:
        await ann.login("ann")
        home = (await ann("GET", "/hub/home")).text
    async with hub.client() as root:
        await root.login("root")
        listed = (await root("GET", "/hub/admin")).text
        use = await root("GET", "/hub/admin/use?on=ann/")
        nobody = await root("GET", "/hub/admin/use?on=nobody/")

    assert '<span data-use="memory">512 MB</span>' in home
    assert '<span data-use="cpu">unknown</span>' in home  # a rate needs a second measure
    assert 'aria-label="Memory over the last hour: 1 GB now, 3 GB at most"' in home
    assert '<span data-use="memory">512 MB</span>' in listed
    assert 'aria-label="CPU over the last hour: 25% now, 25% at most"' in use.text
    assert nobody.status == 404


async def test_the_ephemeral_are_found_and_counted(hub: Site) -> None:
    await runs(hub, "guest-1", memory=GB)
    await hub.person("ann")
    async with hub.db.begin() as db:
        await db.execute(sa.update(User).where(User.name == "guest-1").values(guest=True))

    assert await names(hub, "is:ephemeral") == ["guest-1"]
    async with hub.db.read() as db:
        assert (await counts(db, now=clock.now()))["ephemeral"] == 1
