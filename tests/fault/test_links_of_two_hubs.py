"""Links with two hubs on one database: either opens one, what is made is made once, and either goes on alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from launches import config, events, opened
from replicas import two_hubs
from repositories import Repository, git_daemon, link
from support import eventually
from witness import nothing_lost

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


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
            name = one["url"].rstrip("/").rpartition("/")[2]
            status, body = await site.to_second.call("DELETE", f"/users/{name}/server")
            assert status in (202, 204), body
        await eventually(
            lambda: not list((folder / "sessions").iterdir()),
            within_s=60,
            what="every session's folder is gone",
        )
        await nothing_lost(site.to_second, site.second)
