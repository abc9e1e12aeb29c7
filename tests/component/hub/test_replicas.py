"""What a hub hears of another on the same PostgreSQL. Nothing is polled here: the net's intervals are set to an hour."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.db import lease
from himalia_hub.servers import leases, listen, progress, store
from himalia_hub.servers.state import Phase
from support import eventually

from .hub_site import Site, site

pytestmark = pytest.mark.postgres

HOUR = 3600.0
LISTENERS = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"


@asynccontextmanager
async def hearing(one: Site) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(listen.run(one.db, one.world.doorbell))
    try:
        await eventually(lambda: _count(one, LISTENERS), within_s=30)
        # The first ring is the listener's own, for what it may have missed before.
        await one.world.doorbell.wait(at_most_s=30)
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _count(one: Site, what: str) -> int:
    async with one.db.read() as db:
        return int((await db.execute(sa.text(f"SELECT count(*) {what}"))).scalar_one())


@pytest.fixture
async def hubs(tmp_path, postgres_database, monkeypatch):
    monkeypatch.setattr(progress, "LOOK_S", HOUR)
    monkeypatch.setattr(progress, "KEEP_ALIVE_S", HOUR)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with (
        site(tmp_path / "one", postgres_database) as one,
        site(tmp_path / "two", postgres_database) as two,
    ):
        yield one, two


async def test_each_step_recorded_at_one_hub_is_in_the_story_that_the_other_tells_at_once(hubs):
    worker, shown = hubs
    ann = await worker.person("ann")
    token = await worker.token(ann)
    now = clock.now()
    async with worker.db.begin() as db:
        server = await store.want_running(db, ann, "", options=None, now=now)
    async with (
        hearing(shown),
        shown.client(token) as client,
        client.session.get("/hub/api/users/ann/server/progress") as stream,
    ):

        async def next_event():
            async with asyncio.timeout(60):
                async for line in stream.content:
                    if line.startswith(b"data: "):
                        return json.loads(line[6:])
            raise AssertionError("the story ended")

        assert (await next_event())["message"] == "Server requested"
        async with worker.db.begin() as db:
            mine, server, _ = await db.run_sync(
                leases.claim_due, "a", node=None, now=now, ttl=timedelta(hours=1)
            )
        for step in ("one", "two", "three"):
            async with worker.db.begin() as db:
                await db.run_sync(leases.record, mine, {"phase": Phase.STARTING})
                store.add_event(db, server, "info", 50, step, now=now)
            assert (await next_event())["message"] == step
        async with worker.db.begin() as db:
            assert await db.run_sync(
                leases.decide,
                mine,
                server.generation,
                {"phase": Phase.READY, "due_at": None, "acted_generation": 1},
            )
        assert (await next_event())["ready"]


async def test_a_listener_that_was_cut_off_comes_back_and_wakes_everybody_once(hubs, monkeypatch):
    _, two = hubs
    monkeypatch.setattr(listen, "RECONNECT_S", 0.05)
    async with hearing(two) as task:
        with two.world.doorbell.watch(7) as watch:
            async with two.db.begin() as db:
                await db.execute(sa.text(f"SELECT pg_terminate_backend(pid) {LISTENERS}"))
            async with asyncio.timeout(60):
                await two.world.doorbell.wait(at_most_s=HOUR)
                await watch.wait(HOUR)
        assert not task.done()


async def test_a_note_that_is_no_number_is_taken_for_a_ring_and_harms_nobody(hubs):
    one, two = hubs
    async with hearing(two) as task:
        for payload in ("", "x", "1e3", "٣", "9" * 30):
            async with one.db.begin() as db:
                await db.execute(sa.select(sa.func.pg_notify(leases.CHANNEL, payload)))
            async with asyncio.timeout(60):
                await two.world.doorbell.wait(at_most_s=HOUR)
        assert not task.done()


async def test_one_hub_at_a_time_keeps_the_routes_and_the_next_follows_when_it_goes(hubs):
    one, two = hubs
    now, ttl = clock.now(), timedelta(seconds=10)

    async def takes(hub: Site, owner: str, *, after_s: float = 0) -> bool:
        async with hub.db.begin() as db:
            return await lease.take(db, "routes", owner, now=now + timedelta(seconds=after_s), ttl=ttl)

    assert await takes(one, "one")
    assert not await takes(two, "two")
    assert await takes(one, "one", after_s=9)
    assert not await takes(two, "two", after_s=18)
    assert await takes(two, "two", after_s=20)
    async with two.db.begin() as db:
        await lease.give_up(db, "two")
    assert await takes(one, "one", after_s=20)
