"""One build for all who wait for it, its log in rows for whoever looks on."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.ephemeral import store
from himalia_hub.ephemeral.making import Maker
from himalia_hub.ephemeral.models import BuildLine, Launch, Stage
from himalia_hub.errors import HimaliaError
from himalia_hub.faults import async_fault
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.world import World


class Builds:
    """The builds of this replica: `limit` at once, each a task that goes on while anybody waits, and if nobody does."""

    def __init__(self, world: World, bell: Doorbell, maker: Maker, *, limit: int) -> None:
        self._world, self._bell, self._maker = world, bell, maker
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(limit)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """Those under way or waiting for their turn."""
        return list(self._tasks.values())

    async def until_made(self, launch: Launch) -> None:
        """Returns when the launch's environment is there. Raises what kept it from being made."""
        key = launch.environment
        building = self._tasks.get(key)
        if building is None and not await self._maker.is_ready(key):
            # Somebody else may have begun it while that was asked.
            building = self._tasks.get(key)
            if building is None:
                building = self._tasks[key] = asyncio.create_task(self._make(launch), name=f"build.{key[:8]}")
                building.add_done_callback(lambda _: self._tasks.pop(key, None))
        if building is not None:
            await asyncio.shield(building)

    async def _make(self, launch: Launch) -> None:
        key = launch.environment
        wanted = await self._maker.wanted(launch)
        async with self._at_once:
            async with self._world.db.begin() as db:
                await store.begin_environment(db, key, wanted.files, now=clock.now())
            lines: asyncio.Queue[str | None] = asyncio.Queue()
            writing = asyncio.create_task(self._write_log(key, lines))
            failure, size, ended = None, None, False
            try:
                size = await self._maker.make(launch, lines.put_nowait)
                await async_fault("launch.built")
                ended = True
            except HimaliaError as error:
                failure, ended = {"message": error.message, "remedy": error.remedy}, True
                raise
            finally:
                lines.put_nowait(None)
                await writing
                if ended:
                    async with self._world.db.begin() as db:
                        await store.end_environment(db, key, now=clock.now(), failure=failure, size=size)

    async def _write_log(self, key: str, lines: asyncio.Queue[str | None]) -> None:
        """Lines become rows, all that have come together in one transaction, up to a bound."""
        written, ended = 0, False
        waiting = sa.select(Launch.id).where(Launch.environment == key, Launch.stage == Stage.BUILDING)
        while not ended:
            batch = [await lines.get()]
            while not lines.empty():
                batch.append(lines.get_nowait())
            ended = None in batch
            kept = [line for line in batch if line is not None][: store.LONGEST_LOG - written]
            if kept:
                written += len(kept)
                async with self._world.db.begin() as db:
                    db.add_all([BuildLine(environment=key, text=line[:1000]) for line in kept])
                    readers = list(await db.scalars(waiting))
                for launch_id in readers:
                    self._bell.tell(launch_id)
