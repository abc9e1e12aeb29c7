"""Quotas over the API and on the page, with rows in both kinds of database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from component.hub.hub_site import Client, Site, site
from himalia_hub import clock
from himalia_hub.db.engine import Database
from himalia_hub.errors import TooMany
from himalia_hub.groups import store as groups
from himalia_hub.servers import asking, store
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.usage import store as usage
from himalia_hub.users import store as users

SETTINGS = {
    "servers": {"slow_start_s": 0, "slow_stop_s": 0},
    "spawner": {"mem_limit": "1G", "cpu_limit": 1},
    "quotas": {"servers": 3, "groups": {"ml": {"memory": "2G"}}, "users": {"max": {"servers": 0}}},
}
USER = "/hub/api/users/{}"


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url, **SETTINGS) as running:
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    """An administrator; ann and ben are in the group ml."""
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as client:
        for name in ("ann", "ben", "max"):
            await hub.person(name)
        assert (await client("POST", "/hub/api/groups/ml", json={"users": ["ann", "ben"]})).status == 201
        yield client


async def start(client: Client, user: str, name: str = "") -> int:
    path = f"{USER.format(user)}/servers/{name}" if name else f"{USER.format(user)}/server"
    return (await client("POST", path)).status


async def test_a_start_over_the_quota_is_refused_with_what_to_do(root: Client) -> None:
    assert [await start(root, "max", f"s{number}") for number in range(4)] == [202] * 4
    assert [await start(root, "root", f"s{number}") for number in range(4)] == [202, 202, 202, 429]
    refused = await root("POST", f"{USER.format('root')}/servers/x")
    assert refused.json["code"] == "over-quota"
    assert "The quota of root is 3 servers at once" in refused.json["message"]
    assert "Stop one first" in refused.json["message"]

    await root("DELETE", f"{USER.format('root')}/servers/s0")
    assert await start(root, "root", "x") == 202


async def test_a_group_shares_its_quota(root: Client) -> None:
    assert await start(root, "ann") == 202
    assert await start(root, "ben") == 202
    refused = await root("POST", f"{USER.format('ann')}/servers/more")

    assert refused.status == 429
    assert "the group 'ml' is 2 GB of memory" in refused.json["message"]
    told = (await root("GET", "/hub/api/groups/ml/usage")).json
    assert (told["limits"]["memory"], told["use"]["memory"], told["use"]["servers"]) == (2**31, 2**31, 2)


async def test_the_api_sets_quotas_that_count_at_the_next_start(root: Client) -> None:
    path = USER.format("max") + "/quota"
    set_ = await root("PUT", path, json={"servers": 1})
    assert (set_.status, set_.json["limits"]["servers"]) == (200, 1)
    assert [await start(root, "max"), await start(root, "max", "x")] == [202, 429]
    assert (await root("PUT", path, json={"servers": -1})).status == 400
    assert (await root("PUT", path, json={"servants": 1})).status == 400
    assert (await root("DELETE", path)).status == 204
    assert await start(root, "max", "x") == 202


async def test_used_up_hours_say_when_there_are_new_ones(hub: Site, root: Client) -> None:
    now = clock.now()
    async with hub.db.begin() as db:
        user = await users.by_name(db, "max")
        server = await store.get_or_create(db, user, "old", now=now)
        server.started, server.memory_reserved = now - timedelta(minutes=90), 2**31
        await db.run_sync(usage.record_life, server, until=now)
        await db.run_sync(usage.record_life, server, until=now)
        server.started = None
    used = (await root("GET", USER.format("max") + "/usage")).json
    await root("PUT", USER.format("max") + "/quota", json={"server_hours": 1})
    refused = await root("POST", USER.format("max") + "/server")

    begins, resets = used["resets_at"][:7], used["period"]
    assert resets == "month"
    assert begins > f"{now:%Y-%m}"
    if now.day > 1 or now.hour > 1:  # else the life lies in the month before
        assert used["use"]["server_hours"] == pytest.approx(3, abs=0.01)
        assert used["use"]["memory_hours"] == pytest.approx(6, abs=0.02)
        assert refused.status == 429
        assert "There are new ones on 1 " in refused.json["message"]
        assert int(refused.headers["Retry-After"]) > 60


async def test_a_server_on_its_way_down_still_counts(hub: Site, root: Client) -> None:
    await root("PUT", USER.format("max") + "/quota", json={"servers": 1})
    assert await start(root, "max") == 202
    async with hub.db.begin() as db:
        server = await store.find(db, "max", "")
        server.desired, server.phase = Desired.STOPPED, Phase.STOPPING
    assert await start(root, "max", "x") == 429


async def test_many_starts_at_two_hubs_at_once_use_no_more_than_there_is(
    hub: Site, root: Client, database_url: str
) -> None:
    other = Database(database_url)

    async def ask(database: Database, name: str) -> bool:
        try:
            async with database.begin() as db:
                user = await users.by_name(db, "ann" if name < "n5" else "ben")
                await asking.ask(db, hub.world.settings, user, name, None, None)
        except TooMany:
            return False
        return True

    got = await asyncio.gather(*(ask(other if number % 2 else hub.db, f"n{number}") for number in range(10)))
    await other.close()

    assert sum(got) == 2
    async with hub.db.read() as db:
        ml = await groups.by_name(db, "ml")
        standing = await usage.of_group(db, hub.world.settings, ml, now=clock.now())
    assert standing.use.memory == 2**31


async def test_home_shows_what_one_may_use(hub: Site, root: Client) -> None:
    await start(root, "ann")
    async with hub.client() as browser:
        await browser.login("ann")
        page = (await browser("GET", "/hub/home")).text
    assert "1 of 3 servers" in page
    assert "1 GB of 2 GB memory with the group <bdi>ml</bdi>" in page


async def test_people_read_their_own_use_and_set_nothing(hub: Site, root: Client) -> None:
    async with hub.db.read() as db:
        ann = await users.by_name(db, "ann")
    async with hub.client(await hub.token(ann)) as client:
        assert (await client("GET", USER.format("ann") + "/usage")).json["groups"]["ml"]["use"][
            "servers"
        ] == 0
        assert (await client("GET", USER.format("ben") + "/usage")).status == 404
        assert (await client("PUT", USER.format("ann") + "/quota", json={"servers": 9})).status == 403
