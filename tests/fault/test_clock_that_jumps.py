"""A running hub's clock goes an hour ahead and comes back: nobody is idle for it, signed out, or kept waiting."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hubs import Client, Hub, client
from launches import Person
from support import eventually
from witness import nothing_lost, select

CONFIG = "[cull]\nidle_s = 1800\nevery_s = 0.5\n[servers]\nslow_start_s = 0\n"
PROGRAM = [sys.executable, "-I", str(Path(__file__).with_name("hub_by_another_clock.py"))]


class Clock:
    """Of one hub, beside this machine's."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ahead(0)

    def ahead(self, seconds: float) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        os.replace(new, self.file)


@pytest.fixture
async def place(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Hub, Client, Clock]]:
    clock = Clock(tmp_path / "ahead")
    url = None if database_url.startswith("sqlite") else database_url
    hub = Hub(tmp_path / "data", config=CONFIG, db_url=url)
    hub.program = PROGRAM
    try:
        await asyncio.to_thread(hub.add_user, "root", admin=True)
        async with client(hub, await asyncio.to_thread(hub.token, "root")) as admin:
            await hub.start(env={"CLOCK_AHEAD": str(clock.file)})
            assert (await admin.call("POST", "/users", json={"usernames": ["ann", "bob", "cleo"]}))[0] == 201
            yield hub, admin, clock
    finally:
        hub.clean_up()


async def jumps(hub: Hub, clock: Clock, seconds: float) -> None:
    """The hub's clock is ahead by this from now on, and it has seen it."""
    before = hub.said().count("clock.jumped")
    clock.ahead(seconds)
    await eventually(lambda: hub.said().count("clock.jumped") > before, what="the hub sees the jump")


async def looked_for_idle_ones(hub: Hub) -> None:
    """Twice: the first of these looks may have begun before."""

    async def until() -> str:
        rows = await asyncio.to_thread(select, hub, "SELECT until FROM job_leases WHERE name = 'cull'")
        return str(rows[0].until) if rows else ""

    for _ in range(2):
        before = await until()

        async def again(before: str = before) -> bool:
            return await until() != before

        await eventually(again, within_s=30, what="the hub looks for servers that nobody uses")


async def test_an_hour_ahead_and_back_ends_no_server_no_sign_in_and_no_start(
    place: tuple[Hub, Client, Clock],
) -> None:
    hub, admin, clock = place
    async with Person(hub) as root:
        await root.sign_in("root")
        assert (await admin.call("POST", "/users/ann/server"))[0] in (201, 202)
        await admin.until_ready("ann")
        assert (await admin.call("POST", "/users/bob/server"))[0] in (201, 202)

        await jumps(hub, clock, 3600)  # while bob's begins
        await looked_for_idle_ones(hub)
        await admin.until_ready("bob")
        await admin.until_ready("ann")
        assert (await root.get("/hub/home"))[0] == 200, "still signed in"

        await jumps(hub, clock, 0)
        await looked_for_idle_ones(hub)
        assert (await admin.call("POST", "/users/cleo/server"))[0] in (201, 202)
        await admin.until_ready("cleo")
        assert (await admin.call("DELETE", "/users/bob/server"))[0] in (202, 204)
        assert (await root.get("/hub/home"))[0] == 200
    await nothing_lost(admin, hub)
    assert {row.name for row in await asyncio.to_thread(select, hub, READY)} == {"ann", "cleo"}


READY = "SELECT u.name FROM servers s JOIN users u ON u.id = s.user_id WHERE s.phase = 'ready'"
