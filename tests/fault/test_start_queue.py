"""The queue of starts with two real hubs on one PostgreSQL: the bound is exact, and no death loses a place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replicas import Site, two_hubs
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.postgres

CONFIG = "[servers]\nactive_limit = 2\nlease_s = 3\nslow_start_s = 0\nslow_stop_s = 0\n"
PEOPLE = [f"u{number}" for number in range(6)]


@pytest.fixture
async def site(tmp_path: Path, postgres_database: str) -> AsyncIterator[Site]:
    async with two_hubs(tmp_path / "s", postgres_database, CONFIG) as made:
        await made.first.start()
        await made.second.start()
        yield made


async def places(site: Site) -> dict[str, int]:
    """Who waits, and where."""
    models = {name: await site.to_second.server(name) for name in PEOPLE}
    return {name: model["place"] for name, model in models.items() if "place" in model}


async def ready(site: Site) -> set[str]:
    return {name for name in PEOPLE if (await site.to_second.server(name))["ready"]}


async def test_two_hubs_give_out_no_place_too_many_and_a_killed_one_loses_none(site: Site) -> None:
    assert (await site.to_first.call("POST", "/users", json={"usernames": PEOPLE}))[0] == 201
    answers = await asyncio.gather(
        *(
            (site.to_first if number % 2 else site.to_second).call("POST", f"/users/{name}/server")
            for number, name in enumerate(PEOPLE)
        )
    )
    assert [status for status, _ in answers] == [202] * len(PEOPLE)
    await eventually(lambda: _ran(site, 2), within_s=60, what=site.first.said())
    before = await places(site)
    assert sorted(before.values()) == [1, 2, 3, 4]

    site.first.kill()
    await site.first.start()
    assert await places(site) == before
    assert len(site.first.processes()) == 2

    await eventually(lambda: _ran(site, 2), within_s=60, what="the first hub has found its servers again")
    order = sorted(before, key=lambda name: before[name])
    leaver, canceller, next_one = min(await ready(site)), order[0], order[1]
    assert (await site.to_first.call("DELETE", f"/users/{canceller}/server"))[0] in (202, 204)
    assert (await site.to_second.call("DELETE", f"/users/{leaver}/server"))[0] in (202, 204)
    await eventually(lambda: _is_ready(site, next_one), within_s=60, what=site.second.said())
    assert await places(site) == {order[2]: 1, order[3]: 2}
    await nothing_lost(site.to_second, site.first, site.second, others=[site.to_first])


async def _ran(site: Site, count: int) -> bool:
    return len(await ready(site)) == count


async def _is_ready(site: Site, name: str) -> bool:
    return bool((await site.to_second.server(name))["ready"])
