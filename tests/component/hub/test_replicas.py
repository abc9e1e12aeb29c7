"""What a hub hears of another on the same PostgreSQL. Nothing is polled here: the net's intervals are set to an hour."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.auth import cutting
from himalia_hub.auth.cutting import CUTTER
from himalia_hub.db import lease
from himalia_hub.errors import ConfigError
from himalia_hub.keys import PROXY
from himalia_hub.reloading import RELOADER, as_asked, on_hangup
from himalia_hub.replicas import elsewhere, presence
from himalia_hub.secrets import Secrets
from himalia_hub.servers import leases, listen, progress, store
from himalia_hub.servers.state import Phase
from support import eventually

from .hub_site import Site, site
from .test_cuts import put_out
from .test_suspension import CuttingProxy

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


async def test_what_is_to_be_cut_is_heard_by_another_hub_also_when_it_did_not_listen_and_found_when_it_hears_nothing(
    hubs, monkeypatch
):
    one, two = hubs
    monkeypatch.setattr(cutting, "EVERY_S", HOUR)
    monkeypatch.setattr(listen, "RECONNECT_S", 0.05)
    proxy = two.app._state[PROXY] = CuttingProxy()
    await put_out(one, "before")
    called = two.world.together.cuts
    looking = asyncio.create_task(two.app[CUTTER].run())
    listening = asyncio.create_task(listen.run(two.db, two.world.doorbell, None, called))
    try:
        await eventually(lambda: proxy.told == ["before"], within_s=30)
        await eventually(lambda: _count(one, LISTENERS), within_s=30)
        await put_out(one, "heard")
        await eventually(lambda: proxy.told[1:] == ["heard"], within_s=30)
        async with one.db.begin() as db:
            await db.execute(sa.text(f"SELECT pg_terminate_backend(pid) {LISTENERS}"))
        await put_out(one, "meanwhile")
        await eventually(lambda: proxy.told[2:] == ["meanwhile"], within_s=30)
        for task in (listening, looking):
            task.cancel()
        await asyncio.gather(listening, looking, return_exceptions=True)
        monkeypatch.setattr(cutting, "EVERY_S", 0.05)
        looking = asyncio.create_task(two.app[CUTTER].run())
        await put_out(one, "found")
        await eventually(lambda: proxy.told[3:] == ["found"], within_s=30)
    finally:
        for task in (listening, looking):
            task.cancel()
        await asyncio.gather(listening, looking, return_exceptions=True)


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
            [(mine, server, _)] = await db.run_sync(
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


async def test_a_step_of_another_hub_is_news_and_no_work_and_ones_own_words_are_neither(hubs):
    one, two = hubs
    heard: list[int | None] = []
    two.world.doorbell.listen(heard.append)
    async with hearing(two), asyncio.timeout(60):
        heard.clear()
        work = asyncio.create_task(two.world.doorbell.wait(at_most_s=HOUR))
        await two.db.write(functools.partial(leases.notify, server_id=6, wish=True))
        await one.db.write(functools.partial(leases.notify, server_id=7))
        await eventually(lambda: heard, within_s=30)
        assert (heard, work.done()) == ([7], False)
        await one.db.write(functools.partial(leases.notify, server_id=8, wish=True))
        await work
        assert heard == [7, 8]


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


@asynccontextmanager
async def present(one: Site, name: str) -> AsyncIterator[None]:
    """There for the others, and heard by NOTIFY alone."""
    world = one.world
    await presence.join(world, name)
    tasks = [
        asyncio.create_task(listen.run(one.db, world.doorbell, world.together.heard)),
        asyncio.create_task(presence.run(world, asyncio.Event(), functools.partial(as_asked, one.app))),
    ]
    try:
        await eventually(lambda: _count(one, LISTENERS), within_s=30)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reads(one: Site, **limits: int) -> None:
    """What stands in this hub's file from now on."""
    new = one.world.settings.model_copy(deep=True)
    servers = new.servers.model_copy(update=limits)
    one.app[RELOADER].load = lambda: new.model_copy(update={"servers": servers})


@pytest.fixture
async def asking(hubs, monkeypatch):
    """The first hub's administrator, and a second hub that is there and looks at its row when it is called only."""
    monkeypatch.setattr(presence, "BEAT_S", HOUR)
    one, two = hubs
    await presence.join(one.world, "first")
    reads(one, active_limit=7)
    root = await one.token(await one.person("root", admin=True))
    async with one.client(root) as client, present(two, "second"):
        yield client


async def test_a_reload_at_one_hub_reaches_the_other_and_the_answer_says_what_each_took(hubs, asking):
    _, two = hubs
    reads(two, active_limit=7, resync_s=7)
    answer = await asking("POST", "/hub/api/config/reload")
    assert answer.status == 200, answer.text
    assert answer.json["changed"] == ["servers.active_limit"]
    there = {"changed": ["servers.active_limit", "servers.resync_s"], "needs_restart": []}
    assert answer.json["hubs"] == {two.world.hub_url: there}
    assert two.world.settings.servers.active_limit == 7


async def test_a_signal_at_one_hub_reaches_the_other_unless_the_first_ones_file_is_refused(hubs, asking):
    one, two = hubs
    reads(two, active_limit=7)
    good = one.app[RELOADER].load

    def broken():
        raise ConfigError("servers.activ_limit: there is no such key")

    one.app[RELOADER].load = broken
    await on_hangup(one.app)
    assert two.world.settings.servers.active_limit == 0
    one.app[RELOADER].load = good
    await on_hangup(one.app)
    assert [hub.world.settings.servers.active_limit for hub in hubs] == [7, 7]


async def test_a_hub_that_refuses_its_file_says_why_at_the_one_that_was_asked(hubs, asking):
    _, two = hubs

    def broken():
        raise ConfigError("servers.activ_limit: there is no such key")

    two.app[RELOADER].load = broken
    for _ in range(2):  # asked again it answers again
        answer = await asking("POST", "/hub/api/config/reload")
        assert answer.status == 200, answer.text
        assert "activ_limit" in answer.json["hubs"][two.world.hub_url]["refused"]


async def test_a_hub_that_does_not_answer_is_named_and_does_it_when_it_is_back(hubs, monkeypatch):
    one, two = hubs
    for hub, name in ((one, "first"), (two, "second")):
        await presence.join(hub.world, name)
        reads(hub, active_limit=7)
    monkeypatch.setattr(elsewhere, "ANSWER_S", 0.0)
    said = await elsewhere.reload(one.world)
    assert "has not answered" in said[two.world.hub_url]["refused"]

    reading = asyncio.create_task(
        presence.run(two.world, asyncio.Event(), functools.partial(as_asked, two.app))
    )
    try:
        await eventually(lambda: two.world.settings.servers.active_limit == 7, within_s=30)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_hub_with_another_secret_or_base_url_than_those_that_are_there_is_refused(hubs):
    one, two = hubs
    await presence.join(one.world, "first")
    two.world.hub_url = "http://127.0.0.1:2"
    await presence.check(two.world)
    two.world.secrets = Secrets(b"y" * 32)
    with pytest.raises(ConfigError, match=r"hub\.secret_file"):
        await presence.check(two.world)
    two.world.secrets = one.world.secrets
    two.world.settings = two.world.settings.model_copy(update={"base_url": "/elsewhere/"})
    with pytest.raises(ConfigError, match="base_url"):
        await presence.check(two.world)
