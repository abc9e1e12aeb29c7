"""Now and then, and when somebody asks for it: the environments and folders go that nobody has used for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from himalia_hub import clock
from himalia_hub.ephemeral import store
from himalia_hub.ephemeral.collect import collect
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.making import Maker
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.servers.world import World

EVERY_S = 600.0


class Sweep:
    """What is removed of one hub's folders and rows, by whoever holds the lease of launches."""

    def __init__(
        self, world: World, folders: Folders, maker: Maker, being_made: Callable[[str], bool]
    ) -> None:
        self._world, self._folders, self._maker, self._being_made = world, folders, maker, being_made
        self._keep_s = world.settings.ephemeral.keep_unused_s
        self._at_s = -EVERY_S

    async def round(self, launches: Sequence[Launch]) -> None:
        """Called often, with all launches under way; what they use stays."""
        # What one that is not resolved yet is going to use is not known; all others are listed, and so protected.
        if any(launch.stage in (Stage.RESOLVING, Stage.FETCHING) for launch in launches):
            return
        now_s = asyncio.get_running_loop().time()
        due = now_s - self._at_s >= EVERY_S
        if due or await self._is_asked_for():
            await self._environments([launch.environment for launch in launches])
        if due:
            self._at_s = now_s
            await self._from_disk(launches)

    async def _is_asked_for(self) -> bool:
        async with self._world.db.read() as db:
            return await store.any_unwanted(db)

    async def _environments(self, in_use: Collection[str]) -> None:
        before = clock.now() - timedelta(seconds=self._keep_s)
        async with self._world.db.read() as db:
            keys = await store.unused_environments(db, in_use, before=before)
            halves = await store.unfinished_environments(db, in_use)
        for key in halves:
            if self._being_made(key):
                continue
            if await self._maker.is_ready(key):  # a hub was killed between the mark and the row
                async with self._world.db.begin() as db:
                    await store.use_environment(db, key, now=clock.now())
            else:
                keys.append(key)
        for key in keys:
            await self._maker.remove(key)
        async with self._world.db.begin() as db:
            await store.forget_environments(db, keys)

    async def _from_disk(self, launches: Sequence[Launch]) -> None:
        in_use = {path for launch in launches for path in self._folders.of(launch)}
        gone = await asyncio.to_thread(collect, self._folders, in_use, keep_s=self._keep_s)
        environments = [path.name for path in gone if path.parent == self._folders.environments]
        if environments:
            async with self._world.db.begin() as db:
                await store.forget_environments(db, environments)
