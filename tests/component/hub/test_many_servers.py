"""Work on all servers is done a page at a time: none is left out, wherever a page ends, on both databases."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Site
from himalia_hub import clock
from himalia_hub.measures import work
from himalia_hub.measures.models import ServerUse
from himalia_hub.pace import Bites
from himalia_hub.routes import sync
from himalia_hub.servers import resync
from himalia_hub.servers.models import Server
from himalia_proxy.base import Route
from himalia_spawner.base import Handle, Measure, ServerRef
from himalia_spawner.fake import FakeServer

URL = "http://127.0.0.1:9"


@pytest.fixture
def hub(hub_on_each: Site) -> Site:
    return hub_on_each


@pytest.fixture(params=[2, 5])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The size of one, with five servers."""
    monkeypatch.setattr(sync, "PAGE", request.param)
    monkeypatch.setattr(work, "CHUNK", request.param)
    return int(request.param)


async def five(hub: Site) -> list[Server]:
    servers = [await hub.server(await hub.person(f"p{number}")) for number in range(5)]
    for server in servers:
        handle = Handle(ServerRef(server.backend_name, "1"), URL)
        hub.world.spawner.backend.servers[server.backend_name] = FakeServer(handle, {}, use=Measure(1, 1.0))
    async with hub.db.begin() as db:
        await db.execute(sa.update(Server).values(url=URL))
    return servers


@pytest.mark.usefixtures("page")
async def test_every_server_is_compared_with_its_route(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = await five(hub)
    routed = {"jupyterhub": True, "last_activity": clock.iso(clock.now())}
    table = {f"/user/p{number}/": Route(f"/user/p{number}/", URL, routed) for number in (0, 3)}

    async def routes() -> dict[str, Route]:
        return table | {"/user/gone/": Route("/user/gone/", URL, routed)}

    monkeypatch.setattr(hub.world.proxy, "routes", routes)
    found = await sync.check(hub.world)

    assert list(found.wake) == [servers[number].backend_name for number in (1, 2, 4)]
    assert found.delete == ("/user/gone/",)
    async with hub.db.read() as db:
        due = set(await db.scalars(sa.select(Server.id).where(Server.due_at.is_not(None))))
        used = set(await db.scalars(sa.select(Server.id).where(Server.last_activity.is_not(None))))
    assert due == {servers[number].id for number in (1, 2, 4)}
    assert used == {servers[number].id for number in (0, 3)}


@pytest.mark.usefixtures("page")
async def test_a_comparison_with_rests_believes_nothing_that_has_changed_since_the_table_was_read(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = await five(hub)
    monkeypatch.setattr(sync, "FRESH_S", 0)

    def route(name: str) -> Route:
        return Route(f"/user/{name}/", URL, {"jupyterhub": True})

    now = {f"/user/{name}/": route(name) for name in ("p0", "p1", "p2", "p3", "stray")}
    read = iter([{f"/user/{name}/": route(name) for name in ("p0", "p1", "removed", "stray")}])
    deleted: list[str] = []

    async def routes() -> dict[str, Route]:
        return next(read, now)

    async def get(spec: str) -> Route | None:
        return now.get(spec)

    async def delete(spec: str) -> None:
        deleted.append(spec)

    for name, call in (("routes", routes), ("get", get), ("delete", delete)):
        monkeypatch.setattr(hub.world.proxy, name, call)
    await sync.check(hub.world, Bites(0.001))

    assert deleted == ["/user/stray/"]
    async with hub.db.read() as db:
        due = set(await db.scalars(sa.select(Server.id).where(Server.due_at.is_not(None))))
    assert due == {servers[4].id}


@pytest.mark.usefixtures("page")
async def test_every_server_is_measured_in_its_turn_and_the_named_ones_when_they_are_new(hub: Site) -> None:
    servers, sampler = await five(hub), work.Sampler()
    ids = {server.id for server in servers}

    assert await work.measure_new(hub.world, sampler, ids - {servers[2].id}) == sorted(ids - {servers[2].id})
    assert await hub.count(ServerUse) == 4
    await work.measure(hub.world, sampler)
    assert await hub.count(ServerUse) == 5
    assert sampler.known() == ids


async def test_the_net_looks_at_every_server_and_wakes_those_that_are_not_as_their_row_says(
    hub: Site, page: int
) -> None:
    servers, backend = await five(hub), hub.world.spawner.backend
    for server in servers:
        handle = Handle(ServerRef(server.backend_name, f"{server.id}.1"), URL)
        backend.servers[server.backend_name] = FakeServer(handle, {})
    del backend.servers[servers[1].backend_name]
    backend.servers[servers[2].backend_name] = FakeServer(
        Handle(ServerRef(servers[2].backend_name, "0"), URL), {}
    )
    moved = Handle(ServerRef(servers[4].backend_name, f"{servers[4].id}.1"), "http://127.0.0.1:10")
    backend.servers[servers[4].backend_name] = FakeServer(moved, {})
    async with hub.db.begin() as db:  # not at rest: somebody's work already
        await db.execute(sa.update(Server).where(Server.id == servers[3].id).values(queued_at=clock.now()))

    after_id, turns = await resync.look_on(hub.world, 0, page), 1
    while after_id:
        after_id, turns = await resync.look_on(hub.world, after_id, page), turns + 1

    assert turns == {2: 3, 5: 1}[page]
    assert await resync.turn_size(hub.world) == 2
    async with hub.db.read() as db:
        due = set(await db.scalars(sa.select(Server.id).where(Server.due_at.is_not(None))))
    assert due == {servers[number].id for number in (1, 2, 4)}
    assert sorted(name for what, name in backend.calls if what == "look") == sorted(
        servers[number].backend_name for number in (0, 1, 2, 4)
    )
