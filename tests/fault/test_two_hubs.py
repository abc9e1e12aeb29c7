"""Two hubs on one PostgreSQL: either does the other's work, at once when it can, after the lease when it must.

`resync_s` is so long that a wish that is acted upon in time was heard through LISTEN/NOTIFY and by nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from replicas import Site, two_hubs
from support import eventually

pytestmark = pytest.mark.postgres

CONFIG = "[servers]\nresync_s = 3600\nlease_s = 3\nslow_start_s = 0\n[spawner]\nconcurrent_steps = 1\n"
PEOPLE = 4


@pytest.fixture
async def site(tmp_path: Path, postgres_database: str) -> AsyncIterator[Site]:
    async with two_hubs(tmp_path / "s", postgres_database, CONFIG) as made:
        yield made


async def _people(site: Site) -> list[str]:
    names = [f"u{number}" for number in range(PEOPLE)]
    assert (await site.to_second.call("POST", "/users", json={"usernames": names}))[0] == 201
    return names


async def _ready(site: Site, user: str) -> bool:
    return bool((await site.to_second.server(user))["ready"])


async def test_a_wish_written_at_a_stuck_hub_is_heard_and_done_by_the_other(site: Site) -> None:
    # The first hub serves requests, but hangs for ever in its first claim: that one is taken over when its lease
    # ends, and all later ones are the second's, which has nothing but the notification to know of them.
    await site.first.start(env={"HIMALIA_FAULT": "claim.after_commit:hang"})
    await site.second.start()
    names = await _people(site)
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


async def test_a_hub_killed_in_a_start_is_overtaken_when_its_lease_ends_and_one_process_serves(
    site: Site,
) -> None:
    await site.first.start(env={"HIMALIA_FAULT": "spawner.after_fork:exit137"})
    await site.second.start()
    process = site.first.process
    assert process is not None
    asked = []
    for user in await _people(site):
        asked.append(user)
        with suppress(aiohttp.ClientError):
            await site.to_first.call("POST", f"/users/{user}/server")
        with suppress(AssertionError):
            await eventually(lambda name=user: process.poll() is not None or _ready(site, name), within_s=60)
        if process.poll() is not None:
            break
    assert process.poll() == 137, "the first hub did none of the starts"

    for user in asked:
        await eventually(lambda name=user: _ready(site, name), within_s=60, what=site.second.said())
    servers = [mark for _, mark in site.second.processes()]
    assert len(servers) == len(set(servers)) == len(asked)
    # The default route was the dead hub's, perhaps: its successor takes it over, and people come in again.
    await eventually(lambda: _comes_in(site), within_s=30)


async def _comes_in(site: Site) -> bool:
    with suppress(aiohttp.ClientError):
        return (await site.proxied.call("GET", "/user"))[0] == 200
    return False
