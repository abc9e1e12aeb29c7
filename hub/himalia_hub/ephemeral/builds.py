"""One build for all who wait for it, its log in rows for whoever looks on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.ephemeral import store
from himalia_hub.ephemeral.making import Maker
from himalia_hub.ephemeral.models import BuildLine, Launch, Stage
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.errors import HimaliaError
from himalia_hub.faults import async_fault
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.world import World

GRACE_S = 10.0
"""How long a build goes on that nobody waits for: who cancels and clicks again finds it where it was."""
LOOK_S = 2.0


class Turns:
    """Who may build now: `limit` at once in all, and of one repository as many as it may."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    def free(self, url: str, most: int) -> bool:
        """Whether a build of this repository may begin. `most` 0: the repository sets no limit."""
        return self._running.total() < self._limit and (not most or self._running[url] < most)

    @asynccontextmanager
    async def turn(self, url: str, most: int) -> AsyncIterator[None]:
        """Wait for one, and have it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.free(url, most))
            self._running[url] += 1
        try:
            yield
        finally:
            self._running[url] -= 1
            self._running += Counter()  # forgets those at 0
            async with self._changed:
                self._changed.notify_all()


class Builds:
    """The builds of this replica, each a task that goes on while anybody waits for it, and `grace_s` longer."""

    def __init__(
        self,
        world: World,
        bell: Doorbell,
        maker: Maker,
        section: EphemeralSection,
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        self._world, self._bell, self._maker, self._section = world, bell, maker, section
        self._tasks: dict[str, asyncio.Task[bool]] = {}
        self._making: dict[str, asyncio.Task[int]] = {}
        self._queued: set[str] = set()
        self._waiting: Counter[str] = Counter()
        self._turns, self._grace_s = Turns(section.build_limit), grace_s

    @property
    def tasks(self) -> list[asyncio.Task[bool]]:
        """Those under way or waiting for their turn."""
        return list(self._tasks.values())

    def under_way(self, key: str) -> bool:
        """Whether this environment is being made, or will be."""
        return key in self._tasks

    async def until_made(self, launch: Launch) -> None:
        """Returns when the launch's environment is there, or the launch is ended. Raises why it cannot be made."""
        key = launch.environment
        while True:
            build = self._tasks.get(key)
            if build is None or build.done():
                if await self._maker.is_ready(key):
                    return
                # Somebody else may have begun it while that was asked.
                build = self._tasks.get(key)
                if build is None or build.done():
                    build = self._begin(launch)
            self._waiting[key] += 1
            try:
                if not await self._stays(launch, build) or build.result():
                    return
            finally:
                self._waiting[key] -= 1
                if not self._waiting[key]:
                    del self._waiting[key]
                    if not build.done():
                        asyncio.get_running_loop().call_later(self._grace_s, self._give_up, key)

    def _begin(self, launch: Launch) -> asyncio.Task[bool]:
        key = launch.environment

        def forget(ended: asyncio.Task[bool]) -> None:
            if self._tasks.get(key) is ended:
                del self._tasks[key]
            self._queued.discard(key)
            if not ended.cancelled():
                ended.exception()  # those who waited have it

        if not self._turns.free(launch.url, self._most(launch)):
            self._queued.add(key)
        build = self._tasks[key] = asyncio.create_task(self._make(launch), name=f"build.{key[:8]}")
        build.add_done_callback(forget)
        return build

    async def _stays(self, launch: Launch, build: asyncio.Task[bool]) -> bool:
        """Wait for the end of the build: whether the launch still waits for it then."""
        if launch.environment in self._queued:
            await self._say(launch, "Other environments are made first")
        with self._bell.watch(launch.id, only_the_end=True) as watch:
            build.add_done_callback(lambda _: self._bell.settle(launch.id))
            while not build.done():
                await watch.wait(LOOK_S)
                if not build.done() and not await self._waits(launch):
                    return False
        return True

    async def _waits(self, launch: Launch) -> bool:
        stage = sa.select(Launch.stage).where(Launch.id == launch.id)
        return await self._world.db.read_in_one(lambda db: db.scalar(stage)) is Stage.BUILDING

    def _give_up(self, key: str) -> None:
        """End a build that nobody waits for; once, for its end may take a while."""
        making = self._making.get(key)
        if making is not None and key not in self._waiting and not making.cancelling():
            making.cancel()

    def _most(self, launch: Launch) -> int:
        return self._section.rule(launch.provider, launch.spec).build_limit or 0

    async def _say(self, launch: Launch, words: str) -> None:
        async with self._world.db.begin() as db:
            store.say(db, launch.id, "waiting", words, now=clock.now())
        self._bell.tell(launch.id)

    async def _make(self, launch: Launch) -> bool:
        """Whether it was made; else nobody waited for it any more."""
        key, this = launch.environment, asyncio.current_task()
        assert this is not None
        wanted = await self._maker.wanted(launch)
        async with self._turns.turn(launch.url, self._most(launch)):
            self._queued.discard(key)
            if key not in self._waiting:
                return False
            async with self._world.db.begin() as db:
                await store.begin_environment(db, key, wanted.files, now=clock.now())
            lines: asyncio.Queue[str | None] = asyncio.Queue()
            writing = asyncio.create_task(self._write_log(key, lines))
            failure, size, ended = None, None, False
            making = self._making[key] = asyncio.ensure_future(self._maker.make(launch, lines.put_nowait))
            try:
                size = await making
                await async_fault("launch.built")
                ended = True
            except HimaliaError as error:
                failure, ended = {"message": error.message, "remedy": error.remedy}, True
                raise
            except asyncio.CancelledError:
                if this.cancelling():
                    raise
            finally:
                del self._making[key]
                lines.put_nowait(None)
                await writing
                if ended:
                    async with self._world.db.begin() as db:
                        await store.end_environment(db, key, now=clock.now(), failure=failure, size=size)
            if not ended:
                await self._forget(key)
            return ended

    async def _forget(self, key: str) -> None:
        """Nothing is left of what was given up; `make` has removed its files."""
        async with self._world.db.begin() as db:
            await store.forget_environments(db, [key])

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
