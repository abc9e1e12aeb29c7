"""Starts that wait for a place: the API, the story and the bounds, on both kinds of database."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from himalia_hub import clock
from himalia_hub.db.engine import Database
from himalia_hub.servers import asking, leases, orphans, queue, schedule, store
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users import store as users

LIMITS = {"concurrent_start_limit": 1, "slow_start_s": 0, "slow_stop_s": 0}
TTL = timedelta(minutes=1)
START = "/hub/api/users/{}/server"


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url, servers=LIMITS) as running:
        yield running


@pytest.fixture
async def people(hub: Site) -> AsyncIterator[dict[str, Client]]:
    """ann, ben and cat, each with a token."""
    async with AsyncExitStack() as stack:
        made = {}
        for name in ("ann", "ben", "cat"):
            token = await hub.token(await hub.person(name))
            made[name] = await stack.enter_async_context(hub.client(token))
        yield made


async def place(client: Client, name: str) -> int | None:
    return (await client("GET", START.format(name))).json.get("place")


async def free_a_place(hub: Site, name: str) -> None:
    """What the loop does once the server of this person has answered."""
    async with hub.db.begin() as db:
        server = await store.find(db, name, "")
        server.phase, server.acted_generation, server.due_at = "ready", server.generation, None
    async with hub.db.begin() as db:
        await queue.give_places(db, hub.world.settings.servers, now=clock.now())


async def test_a_start_beyond_the_bound_waits_and_everybody_knows_their_place(
    hub: Site, people: dict[str, Client]
) -> None:
    for number, (name, client) in enumerate(people.items()):
        answer = await client("POST", START.format(name))
        assert (answer.status, answer.json["pending"]) == (202, "spawn")
        assert answer.json.get("place") == (number or None)

    await free_a_place(hub, "ann")

    assert [await place(client, name) for name, client in people.items()] == [None, None, 1]
    async with hub.db.read() as db:
        ben = await store.find(db, "ben", "")
    assert ben.due_at is not None
    assert ben.queued_at is None


async def test_who_cancels_leaves_the_queue_and_the_others_move_up(
    hub: Site, people: dict[str, Client]
) -> None:
    for name, client in people.items():
        await client("POST", START.format(name))
    await people["ben"]("DELETE", START.format("ben"))

    assert await place(people["cat"], "cat") == 1
    async with hub.db.read() as db:
        assert (await store.find(db, "ben", "")).queued_at is None


async def test_a_client_that_asks_for_it_is_refused_and_waits_for_nothing(
    hub: Site, people: dict[str, Client]
) -> None:
    await people["ann"]("POST", START.format("ann"))
    refused = await people["ben"]("POST", START.format("ben"), headers={"X-Himalia-When-Full": "refuse"})

    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) >= 30
    async with hub.db.read() as db:
        assert await store.find(db, "ben", "") is None


async def test_a_hub_can_refuse_everybody_as_jupyterhub_does(tmp_path: Path) -> None:
    async with site(tmp_path, servers=LIMITS | {"when_full": "refuse"}) as hub:
        for name, status in (("ann", 202), ("ben", 429)):
            async with hub.client(await hub.token(await hub.person(name))) as client:
                assert (await client("POST", START.format(name))).status == status


@pytest.mark.parametrize("starting", [0, 1])
@pytest.mark.parametrize("active", [0, 1])
async def test_only_bounds_that_are_set_make_anybody_wait(
    tmp_path: Path, database_url: str, starting: int, active: int
) -> None:
    limits = LIMITS | {"concurrent_start_limit": starting, "active_limit": active}
    async with site(tmp_path, database_url, servers=limits) as hub:
        for name, waits in (("ann", False), ("ben", bool(starting or active))):
            async with hub.client(await hub.token(await hub.person(name))) as client:
                answer = await client("POST", START.format(name))
                assert (answer.status, "place" in answer.json) == (202, waits)


async def test_no_hub_works_on_a_start_that_waits(hub: Site, people: dict[str, Client]) -> None:
    for name, client in people.items():
        await client("POST", START.format(name))
    async with hub.db.begin() as db:
        await schedule.wake_active(db, node=None, now=clock.now())
        await schedule.wake(db, [(await store.find(db, "ben", "")).backend_name], now=clock.now())
    async with hub.db.begin() as db:
        mine = await db.run_sync(leases.claim_due, "a", node=None, now=clock.now(), ttl=TTL)
        other = await db.run_sync(leases.claim_due, "a", node=None, now=clock.now(), ttl=TTL)
        due, waits = await schedule.next_due(db, node=None)
    assert [name for _, _, name in mine] == ["ann"]
    assert other == []
    assert due is not None
    assert waits


async def test_a_hubs_start_wakes_each_server_once_in_all_its_parts_and_nobody_is_taken_for_an_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "PAGE", 2)
    async with site(tmp_path) as hub:
        ann = await hub.person("ann")
        servers = [await hub.server(ann, f"s{number}") for number in range(5)]
        async with hub.db.begin() as db:
            (await db.get_one(Server, servers[4].id)).desired = Desired.STOPPED
            (await db.get_one(Server, servers[4].id)).phase = Phase.STOPPED
        async with hub.db.begin() as db:
            woken = [
                await schedule.wake_active(db, node=None, now=clock.now(), part=p, parts=3) for p in range(3)
            ]
        every, at_rest = await orphans._rows(hub.world)

    assert all(woken)
    assert sorted(one for part in woken for one in part) == [server.id for server in servers[:4]]
    assert every == {server.backend_name for server in servers}
    assert at_rest == {servers[4].backend_name}


async def test_after_a_hubs_start_a_wish_waits_behind_the_looks_of_one_second_not_behind_all(
    hub: Site,
) -> None:
    ann, now = await hub.person("ann"), clock.now()
    servers = [await hub.server(ann, f"s{number}") for number in range(5)]
    async with hub.db.begin() as db:
        await schedule.wake_in_turn(db, node=None, now=now, per_s=2)
        due = await db.scalars(sa.select(Server.due_at).where(Server.name.startswith("s")))
        seconds = Counter(round((moment - now).total_seconds()) for moment in due)

    assert len(servers) == sum(seconds.values()) == 5
    assert max(seconds.values()) <= 2
    assert set(seconds) == {0, 1, 2}


async def test_the_story_tells_the_place_until_the_start_begins(hub: Site, people: dict[str, Client]) -> None:
    for name, client in people.items():
        await client("POST", START.format(name))
    async with people["cat"].session.get(START.format("cat") + "/progress") as stream:

        async def news() -> dict[str, Any]:
            async with asyncio.timeout(30):
                async for line in stream.content:
                    if line.startswith(b"data: "):
                        return json.loads(line[6:])
            raise AssertionError("the story ended")

        assert (await news())["message"] == "Server requested"
        assert (await news())["place"] == 2
        await free_a_place(hub, "ann")
        assert (await news())["place"] == 1
        await free_a_place(hub, "ben")
        async with hub.db.begin() as db:
            store.add_event(db, await store.find(db, "cat", ""), "info", 20, "Starting", now=clock.now())
        assert (await news())["message"] == "Starting"


async def test_many_who_ask_at_once_at_two_hubs_take_no_place_too_many(hub: Site, database_url: str) -> None:
    names = [f"u{number:02}" for number in range(12)]
    for name in names:
        await hub.person(name)
    settings = hub.world.settings.model_copy(
        update={"servers": hub.world.settings.servers.model_copy(update={"concurrent_start_limit": 3})}
    )
    other = Database(database_url)

    async def ask(database: Database, name: str) -> Server:
        async with database.begin() as db:
            user = await users.by_name(db, name)
            return await asking.ask(db, settings, user, "", None, None)

    asked = await asyncio.gather(
        *(ask(hub.db if index % 2 else other, name) for index, name in enumerate(names))
    )
    await other.close()

    assert sum(server.queued_at is None for server in asked) == 3
