"""PostgreSQL itself is stopped, or held up, while people start and stop servers: no restart, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

import postgres
from hubs import Client, Hub, client
from long import lasting, seconds
from support import eventually
from witness import nothing_lost

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]
PEOPLE = [f"u{number}" for number in range(4)]
AWAY_S = seconds(2, 20)


@pytest.fixture
def cluster() -> Iterator[postgres.Cluster]:
    """One that no other test uses."""
    with postgres.cluster() as made:
        yield made


@pytest.fixture
async def place(tmp_path: Path, cluster: postgres.Cluster) -> AsyncIterator[tuple[Hub, Client]]:
    hub = Hub(tmp_path / "data", db_url=cluster.url, config="[servers]\nslow_start_s = 0\nslow_stop_s = 0\n")
    try:
        hub.add_user("root", admin=True)
        async with client(hub, hub.token("root")) as admin:
            await hub.start()
            assert (await admin.call("POST", "/users", json={"usernames": PEOPLE}))[0] == 201
            yield hub, admin
    finally:
        hub.clean_up()


class Load:
    """Everybody starts and stops, again and again; what the hub answered, by status."""

    def __init__(self, admin: Client) -> None:
        self.admin, self.over = admin, asyncio.Event()
        self.seen: Counter[int] = Counter()

    async def person(self, name: str) -> None:
        while not self.over.is_set():
            for method in ("POST", "GET", "DELETE"):
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    status, _ = await self.admin.call(method, f"/users/{name}/server")
                    self.seen[status] += 1


async def test_while_postgresql_is_away_under_load_the_hub_waits_or_refuses_and_afterwards_nothing_is_lost(
    place: tuple[Hub, Client], cluster: postgres.Cluster
) -> None:
    hub, admin = place
    load = Load(admin)
    people = [asyncio.create_task(load.person(name)) for name in PEOPLE]
    try:
        await eventually(lambda: load.seen.total() >= 12 and hub.processes(), within_s=60)
        await asyncio.to_thread(cluster.stop)
        refused = load.seen[503]
        await eventually(lambda: load.seen[503] > refused, within_s=60, what="they are refused")
        await lives_for(AWAY_S, hub, admin)
        await asyncio.to_thread(cluster.start)
        await starts_go_on(load)

        cluster.signal(signal.SIGSTOP)
        await lives_for(AWAY_S, hub, admin)
        cluster.signal(signal.SIGCONT)
        await starts_go_on(load)
    finally:
        cluster.signal(signal.SIGCONT)
        load.over.set()
        await asyncio.gather(*people)
    assert not load.seen[500], load.seen
    for name in PEOPLE:

        async def taken(name: str = name) -> bool:
            return (await admin.call("POST", f"/users/{name}/server"))[0] in (201, 202)

        await eventually(taken, within_s=60, what=f"{name} starts at last")
    seen = await nothing_lost(admin, hub)
    assert {row.person for row in seen.ready()} == set(PEOPLE)


async def lives_for(length_s: float, hub: Hub, admin: Client) -> None:
    """It is well all the while: nobody has to restart it."""
    await lasting(length_s)
    async with admin.session.get(f"{hub.url}/hub/health") as answer:
        assert answer.status == 200


async def starts_go_on(load: Load) -> None:
    before = load.seen[201] + load.seen[202]
    await eventually(lambda: load.seen[201] + load.seen[202] > before, within_s=60, what="starts go on")
