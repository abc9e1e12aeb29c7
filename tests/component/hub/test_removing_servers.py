"""A server that is stopped and then to be removed goes, however the two wishes and the work on them meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from component.hub.hub_site import Site, site
from himalia_hub import clock
from himalia_hub.servers import leases, steps, store
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase, Seen
from himalia_hub.servers.world import Observation
from himalia_spawner.fake import FakeSpawner


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url) as running:
        yield running


async def test_a_wish_to_remove_it_that_comes_while_its_end_is_being_recorded_is_not_forgotten(
    hub: Site,
) -> None:
    ann, now = await hub.person("ann"), clock.now()
    async with hub.db.begin() as db:
        asked = await store.want_running(db, ann, "", options=None, now=now)
        asked.phase = Phase.STOPPING
        await store.want_stopped(db, asked, now=now)
    claim = partial(leases.claim_due, owner="a", node=None, now=now, ttl=timedelta(hours=1))
    [(lease, server, name)] = await hub.db.write(claim)

    async with hub.db.begin() as db:
        there = await db.get_one(Server, server.id)
        await store.want_stopped(db, there, now=now, doomed=True)
    gone = Observation(Seen.ABSENT, routed=False)
    assert await steps.rest_stopped(hub.world, lease, server, name, gone)

    async with hub.db.read() as db:
        assert await db.get(Server, server.id) is None


async def test_nothing_is_left_at_the_backend_of_who_is_deleted_with_servers_at_rest(hub: Site) -> None:
    ann, root = await hub.person("ann"), await hub.person("root", admin=True)
    spawner = hub.world.spawner
    assert isinstance(spawner, FakeSpawner)
    for name in ("", "lab"):
        server = await hub.server(ann, name, desired=Desired.STOPPED, phase=Phase.STOPPED)
        spawner.backend.logs[server.backend_name] = ["what it wrote"]

    async with hub.client(await hub.token(root)) as client:
        assert (await client("DELETE", "/hub/api/users/ann")).status == 204

    assert spawner.backend.logs == {}
