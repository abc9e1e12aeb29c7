"""A hub that gets no processor for longer than its leases: another does its work, and when it wakes it does none of that again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from long import lasting, seconds
from replicas import Site, two_hubs
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.postgres

CONFIG = "[servers]\nlease_s = 2\nslow_start_s = 0\nslow_stop_s = 0\n[spawner]\nconcurrent_steps = 1\n"
PEOPLE = ("ann", "bob")


@pytest.fixture
async def site(tmp_path: Path, postgres_database: str) -> AsyncIterator[Site]:
    async with two_hubs(tmp_path / "s", postgres_database, CONFIG) as made:
        yield made


async def test_what_a_stuck_hub_had_begun_is_done_by_the_other_and_not_done_again_when_it_wakes(
    site: Site,
) -> None:
    # It stops with a lease in its hand and the spawner next. From there on it would hold a lock of this machine, which
    # rightly keeps others from a server that is being made at this moment.
    await site.first.start(env={"HIMALIA_FAULT": "start.before_create:stop"})
    assert (await site.to_first.call("POST", "/users", json={"usernames": list(PEOPLE)}))[0] == 201
    process = site.first.process
    assert process is not None
    stuck = psutil.Process(process.pid)
    # It may be stuck before it has answered, so nobody waits for that.
    asking = asyncio.create_task(site.to_first.call("POST", f"/users/{PEOPLE[0]}/server"))
    try:
        await eventually(lambda: stuck.status() == psutil.STATUS_STOPPED, within_s=60, what="it is stuck")
        await site.second.start()
        assert (await site.to_second.call("POST", f"/users/{PEOPLE[1]}/server"))[0] in (201, 202)
        for name in PEOPLE:
            await eventually(lambda name=name: _is(site, name, "ready"), within_s=90, what=f"{name} is ready")
        assert (await site.to_second.call("DELETE", f"/users/{PEOPLE[0]}/server"))[0] in (202, 204)
        await eventually(lambda: _is(site, PEOPLE[0], "stopped"), within_s=60, what="and stopped again")
        await lasting(seconds(0, 90))
    finally:
        process.send_signal(signal.SIGCONT)
    assert (await asking)[0] in (201, 202)
    await eventually(
        lambda: "server.lease_lost" in site.first.said(), within_s=60, what="it finds its lease gone"
    )
    await nothing_lost(site.to_second, site.first, site.second, others=[site.to_first])
    assert await _is(site, PEOPLE[0], "stopped"), "the wish of before is not done late"


async def _is(site: Site, name: str, state: str) -> bool:
    return bool((await site.to_second.server(name))[state])
