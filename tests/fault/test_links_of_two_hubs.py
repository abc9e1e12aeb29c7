"""Links with two hubs on one database: either opens one, what is made is made once, and either goes on alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hubs import Client, Hub
from launches import config, events, opened
from replicas import two_hubs
from repositories import Repository, git_daemon, link
from support import eventually
from witness import nothing_lost

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


async def end(admin: Client, url: str) -> None:
    """Stop a session's server."""
    name = url.rstrip("/").rpartition("/")[2]
    status, body = await admin.call("DELETE", f"/users/{name}/server")
    assert status in (202, 204), body


async def test_launches_of_two_hubs_share_one_build_and_outlive_the_hub_that_worked_on_them(
    tmp_path: Path, postgres_database: str
) -> None:
    notes = Repository(tmp_path / "repositories", "notes")
    notes.commit({"requirements.txt": "tabulate"})
    folder = tmp_path / "ephemeral"
    async with (
        git_daemon(notes.bare.parent) as base,
        two_hubs(tmp_path / "site", postgres_database, config(folder, "visitor_limit = 0")) as site,
    ):
        await asyncio.gather(site.first.start(), site.second.start())
        address = link(base + notes.name)

        told = await asyncio.gather(opened(site.first, address), opened(site.second, address))

        assert [one[-1]["phase"] for one in told] == ["ready", "ready"], told
        assert len(list((folder / "environments").iterdir())) == 1

        # One begun at one hub is told by the other, also once the first is gone.
        first = await anext(events(site.first, address))
        site.first.kill()
        rest = [event async for event in events(site.second, address, after=first["id"])]
        assert rest[-1]["phase"] == "ready", rest[-1]
        assert {event["launch_id"] for event in rest} == {first["launch_id"]}
        ready = [one[-1] for one in told] + [rest[-1]]
        for one in ready:
            await end(site.to_second, one["url"])
        await eventually(
            lambda: not list((folder / "sessions").iterdir()),
            within_s=60,
            what="every session's folder is gone",
        )
        await nothing_lost(site.to_second, site.second)


async def test_a_crowd_at_two_hubs_has_as_many_sessions_as_places_and_each_other_a_place_of_their_own(
    tmp_path: Path, postgres_database: str
) -> None:
    places, crowd = 2, 16
    notes = Repository(tmp_path / "repositories", "notes")
    notes.commit({"index.ipynb": "{}"})
    folder = tmp_path / "ephemeral"
    limits = (f"total_limit = {places}", "visitor_limit = 0", "visitor_hourly_limit = 0")
    place: dict[int, int] = {}
    ready: dict[int, str] = {}

    async def click(hub: Hub, number: int) -> None:
        async for event in events(hub, address):
            place[number] = event.get("queue_position", place.get(number, 0))
            if event["phase"] == "ready":
                ready[number] = event["url"]

    def in_line(waiting: int) -> bool:
        """Each of them was told a place that is theirs alone, from the first to the last."""
        told = sorted(at for number, at in place.items() if number not in ready)
        return told == list(range(1, waiting + 1))

    async with (
        git_daemon(notes.bare.parent) as base,
        two_hubs(tmp_path / "site", postgres_database, config(folder, *limits)) as site,
    ):
        await asyncio.gather(site.first.start(), site.second.start())
        address = link(base + notes.name)
        site.first.homes = site.second.homes = folder
        hubs = [site.first, site.second] * (crowd // 2)
        clicks = [asyncio.create_task(click(hub, number)) for number, hub in enumerate(hubs)]
        try:
            await eventually(lambda: in_line(crowd - places), within_s=90, what="the others stand in line")
            assert len(ready) == places == len(list((folder / "sessions").iterdir()))

            await end(site.to_second, next(iter(ready.values())))
            moved_up = crowd - places - 1
            await eventually(lambda: in_line(moved_up), within_s=60, what="each moved up by one")
            assert len(ready) == places + 1
            await nothing_lost(site.to_second, site.second)
        finally:
            for task in clicks:
                task.cancel()
            await asyncio.gather(*clicks, return_exceptions=True)
            site.first.kill()
            site.second.kill()
