"""Two hubs on one PostgreSQL: either does the other's work, at once when it can, after the lease when it must.

`resync_s` is so long that a wish that is acted upon in time was heard through LISTEN/NOTIFY and by nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from hubs import Client
from replicas import Site, two_hubs
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.postgres

CONFIG = "[servers]\nresync_s = 3600\nlease_s = 3\nslow_start_s = 0\n[spawner]\nconcurrent_steps = 1\n"
PEOPLE = 4


@pytest.fixture
async def site(tmp_path: Path, postgres_database: str) -> AsyncIterator[Site]:
    async with two_hubs(tmp_path / "s", postgres_database, CONFIG) as made:
        yield made


async def _people(hub: Client) -> list[str]:
    names = [f"u{number}" for number in range(PEOPLE)]
    assert (await hub.call("POST", "/users", json={"usernames": names}))[0] == 201
    return names


async def _ready(site: Site, user: str) -> bool:
    return bool((await site.to_second.server(user))["ready"])


async def test_a_wish_written_at_a_stuck_hub_is_heard_and_done_by_the_other(site: Site) -> None:
    # The first hub serves requests, but hangs for ever in its first claim: that one is taken over when its lease
    # ends, and all later ones are the second's, which has nothing but the notification to know of them.
    await site.first.start(env={"HIMALIA_FAULT": "claim.after_commit:hang"})
    await site.second.start()
    names = await _people(site.to_second)
    for user in names:
        status, _ = await site.to_first.call("POST", f"/users/{user}/server")
        assert status in (201, 202)
        await eventually(
            lambda name=user: _ready(site, name), within_s=60, what=f"{user}: {site.second.said()}"
        )
        status, answer = await site.proxied.call("GET", f"/users/{user}/server")
        assert (status, answer["ready"]) == (200, True)
    assert site.second.worked == names
    assert site.first.worked == []
    await nothing_lost(site.to_second, site.first, site.second, others=[site.to_first, site.proxied])


async def test_a_hub_killed_in_a_start_is_overtaken_when_its_lease_ends_and_one_process_serves(
    site: Site,
) -> None:
    # The second hub starts when the first is dead: before, it would be luck which of the two does the step.
    await site.first.start(env={"HIMALIA_FAULT": "spawner.after_fork:exit137"})
    process = site.first.process
    assert process is not None
    user = (await _people(site.to_first))[0]
    with suppress(aiohttp.ClientError):
        await site.to_first.call("POST", f"/users/{user}/server")
    await eventually(lambda: process.poll() == 137, within_s=60, what=site.first.said())

    await site.second.start()
    await eventually(lambda: _ready(site, user), within_s=60, what=site.second.said())
    assert len(site.second.processes()) == 1
    # The default route was the dead hub's, perhaps: its successor takes it over, and people come in again.
    await eventually(lambda: _comes_in(site), within_s=30)
    await nothing_lost(site.to_second, site.second, others=[site.to_first])


async def _comes_in(site: Site) -> bool:
    with suppress(aiohttp.ClientError):
        return (await site.proxied.call("GET", "/user"))[0] == 200
    return False
