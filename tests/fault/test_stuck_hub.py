"""A hub that gets no processor for longer than its leases: another does its work, and afterwards it does none of that again."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from long import lasting, seconds
from replicas import Site, two_hubs
from support import eventually
from witness import nothing_lost

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]

CONFIG = "[servers]\nlease_s = 2\nslow_start_s = 0\nslow_stop_s = 0\n[spawner]\nconcurrent_steps = 2\n"
PEOPLE = [f"u{number}" for number in range(4)]


@pytest.fixture
async def site(tmp_path: Path, postgres_database: str) -> AsyncIterator[Site]:
    async with two_hubs(tmp_path / "s", postgres_database, CONFIG) as made:
        yield made


async def test_what_a_stuck_hub_had_begun_is_done_by_the_other_and_not_done_again_when_it_wakes(
    site: Site,
) -> None:
    await site.first.start()
    assert (await site.to_first.call("POST", "/users", json={"usernames": PEOPLE}))[0] == 201
    asked = [await site.to_first.call("POST", f"/users/{name}/server") for name in PEOPLE]
    assert {status for status, _ in asked} <= {201, 202}
    await eventually(site.first.processes, within_s=60, what="it has begun")
    process = site.first.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        await site.second.start()
        for name in PEOPLE:
            await eventually(lambda name=name: _ready(site, name), within_s=90, what=f"{name} is ready")
        leaver = PEOPLE[0]
        assert (await site.to_second.call("DELETE", f"/users/{leaver}/server"))[0] in (202, 204)
        await eventually(lambda: _stopped(site, leaver), within_s=60)
        await lasting(seconds(0, 90))
    finally:
        process.send_signal(signal.SIGCONT)
    clients = {"others": [site.to_first]}
    await nothing_lost(site.to_second, site.first, site.second, **clients)

    # It is a hub like the other again.
    assert (await site.to_first.call("POST", f"/users/{leaver}/server"))[0] in (201, 202)
    await eventually(lambda: _ready(site, leaver), within_s=60)
    await nothing_lost(site.to_second, site.first, site.second, **clients)


async def _ready(site: Site, name: str) -> bool:
    return bool((await site.to_second.server(name))["ready"])


async def _stopped(site: Site, name: str) -> bool:
    return bool((await site.to_second.server(name))["stopped"])
