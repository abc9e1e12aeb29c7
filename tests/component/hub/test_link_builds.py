"""Builds of environments, on rows of both databases, with a builder that waits to be told: who they are made for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub import link_rows
from component.hub.hub_site import Site, site
from himalia_hub import clock
from himalia_hub.ephemeral import store
from himalia_hub.ephemeral.builds import Builds
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.installer import Say
from himalia_hub.ephemeral.making import Wanted
from himalia_hub.ephemeral.models import Environment, Launch, LaunchEvent, Stage
from himalia_hub.ephemeral.sweep import Sweep
from himalia_hub.servers.doorbell import Doorbell
from support import eventually

FIRST, SECOND, THIRD = "1" * 64, "2" * 64, "3" * 64


class Builder:
    """Makes what `done` lets it."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.made: set[str] = set()
        self.done = asyncio.Event()

    async def wanted(self, launch: Launch) -> Wanted:
        return Wanted(launch.environment, ("requirements.txt",))

    async def is_ready(self, key: str) -> bool:
        return key in self.made

    async def make(self, launch: Launch, say: Say) -> int:
        self.begun[launch.environment] += 1
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self.cut[launch.environment] += 1
            raise
        self.made.add(launch.environment)
        return 1

    async def remove(self, key: str) -> None:
        self.made.discard(key)


class Yard:
    """Builds, and launches that wait for them."""

    def __init__(self, hub: Site, **settings: object) -> None:
        self.hub, self.bell, self.builder = hub, Doorbell(), Builder()
        section = hub.world.settings.ephemeral.model_copy(update=settings)
        self.builds = Builds(hub.world, self.bell, self.builder, section, grace_s=0.2)
        self.waiters: list[asyncio.Task[None]] = []

    async def wait_for(self, key: str, repository: str = "ann/notes") -> tuple[Launch, asyncio.Task[None]]:
        """A launch of this repository that waits for this environment."""
        async with self.hub.db.begin() as db:
            launch = await link_rows.launch(db, repository, Stage.BUILDING, environment=key)
        task = asyncio.create_task(self.builds.until_made(launch))
        self.waiters.append(task)
        return launch, task

    async def leave(self, launch: Launch) -> None:
        """As its visitor ends it."""
        async with self.hub.db.begin() as db:
            await store.move(db, launch, Stage.ENDING, now=clock.now())
        self.bell.ring(launch.id)

    async def rows(self) -> list[str]:
        """Keys of the environments that there are rows of."""
        async with self.hub.db.read() as db:
            return sorted(await db.scalars(sa.select(Environment.key)))


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url) as running:
        yield running


@pytest.fixture
async def yard(hub: Site) -> AsyncIterator[Yard]:
    made = Yard(hub)
    yield made
    for task in (*made.waiters, *made.builds.tasks):
        task.cancel()
    await asyncio.gather(*made.waiters, *made.builds.tasks, return_exceptions=True)


async def test_a_build_ends_when_the_last_who_waited_has_left_and_a_later_click_begins_it_anew(
    yard: Yard,
) -> None:
    (one, _), (other, _) = await yard.wait_for(FIRST), await yard.wait_for(FIRST)
    await eventually(lambda: yard.builder.begun[FIRST] == 1, within_s=10, what="it is being made")
    await yard.leave(one)
    await asyncio.wait_for(yard.waiters[0], 10)
    assert yard.builds.under_way(FIRST), "somebody waits for it"

    await yard.leave(other)
    await asyncio.wait_for(yard.waiters[1], 10)
    await eventually(lambda: not yard.builds.under_way(FIRST), within_s=10, what="it is given up")
    assert (yard.builder.cut[FIRST], await yard.rows()) == (1, [])

    _, again = await yard.wait_for(FIRST)
    yard.builder.done.set()
    await asyncio.wait_for(again, 10)
    assert (yard.builder.begun[FIRST], yard.builder.made) == (2, {FIRST})


async def test_who_cancels_and_clicks_again_finds_the_build_where_it_was(yard: Yard) -> None:
    yard.builds._grace_s = 3600
    launch, _ = await yard.wait_for(FIRST)
    await eventually(lambda: yard.builder.begun[FIRST] == 1, within_s=10, what="it is being made")
    await yard.leave(launch)
    await asyncio.wait_for(yard.waiters[0], 10)
    _, again = await yard.wait_for(FIRST)
    yard.builder.done.set()
    await asyncio.wait_for(again, 10)
    assert (yard.builder.begun[FIRST], yard.builder.cut[FIRST]) == (1, 0)


async def test_a_repository_has_its_share_of_the_builds_and_who_waits_for_a_turn_reads_so(yard: Yard) -> None:
    await yard.wait_for(FIRST)
    second, waits = await yard.wait_for(SECOND)
    await yard.wait_for(THIRD, "bob/course")
    await eventually(lambda: yard.builder.begun[THIRD] == 1, within_s=10, what="another repository is served")
    assert yard.builder.begun[SECOND] == 0

    async def told() -> bool:
        async with yard.hub.db.read() as db:
            lines = await db.scalars(sa.select(LaunchEvent.message).where(LaunchEvent.launch_id == second.id))
            return "Other environments are made first" in list(lines)

    await eventually(told, within_s=10, what="it is said")
    yard.builder.done.set()
    await asyncio.wait_for(waits, 10)
    assert yard.builder.made == {FIRST, SECOND, THIRD}


async def test_what_a_killed_hub_began_and_nobody_waits_for_is_removed_and_what_it_finished_is_kept(
    yard: Yard, tmp_path: Path
) -> None:
    folders = Folders(tmp_path / "ephemeral")
    folders.make()
    async with yard.hub.db.begin() as db:
        for key in (FIRST, SECOND, THIRD):
            await store.begin_environment(db, key, [], now=clock.now())
        waits = await link_rows.launch(db, "ann/notes", Stage.BUILDING, environment=THIRD)
    yard.builder.made = {SECOND}
    await Sweep(yard.hub.world, folders, yard.builder, yard.builds.under_way).round([waits])
    assert await yard.rows() == [SECOND, THIRD]
    async with yard.hub.db.read() as db:
        assert await store.ready_environments(db) == {SECOND}
