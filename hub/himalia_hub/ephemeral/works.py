"""What moves launches along: one replica at a time, a task for each launch, every step from a row to a row.

A hub may be killed anywhere here. Its successor reads the rows and does the step again: an address is resolved to the
same commit or a newer one, a fetch and a check-out are repeated at no cost, an environment without its mark is made
anew, a folder and a guest are found by the launch's key.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.db import lease
from himalia_hub.ephemeral import bans, git, keeping, pool, session, sources, store
from himalia_hub.ephemeral.admission import Admission
from himalia_hub.ephemeral.archives import Archives
from himalia_hub.ephemeral.builds import Builds
from himalia_hub.ephemeral.collect import touch
from himalia_hub.ephemeral.folders import clear_home, folders_of, furnish_home
from himalia_hub.ephemeral.following import LOOK_S, until_gone, until_ready
from himalia_hub.ephemeral.gists import Gists
from himalia_hub.ephemeral.git import Bounds
from himalia_hub.ephemeral.ground import uids_for
from himalia_hub.ephemeral.listeners import Listeners, Vigil
from himalia_hub.ephemeral.making import maker_of
from himalia_hub.ephemeral.models import MADE, Launch, Stage
from himalia_hub.ephemeral.questions import Questions
from himalia_hub.ephemeral.submodules import Submodules
from himalia_hub.ephemeral.sweep import Sweep
from himalia_hub.ephemeral.weighing import Scales
from himalia_hub.errors import HimaliaError
from himalia_hub.faults import async_fault
from himalia_hub.servers import awake, cull
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.servers.view import ready
from himalia_hub.servers.world import World
from himalia_spawner.errors import BackendGone

log = structlog.get_logger()

LEASE = "ephemeral"
LEASE_S = 10.0
ROUND_S = 0.05
"""Who clicks within this time is looked at in one round: 200 rounds for 200 clicks keep their answers waiting."""
BEGUN_A_ROUND = 4
"""Of a crowd the first are looked at first."""
STAND_BACK_S = 1.0
"""Nothing is begun while people wait for the first answer to their click: so long at most, for they may never end."""


class Over(Exception):
    """The launch is being ended by somebody else: nothing more is to be done for it here."""


class Works:
    """The launches of this hub under way."""

    def __init__(
        self, world: World, bell: Doorbell, door: Admission, listeners: Listeners, owner: str
    ) -> None:
        self._world, self._bell, self._door, self._owner = world, bell, door, owner
        self._listeners, self._vigil = listeners, Vigil(world.settings.ephemeral.nobody_waits_s)
        self._folders, self._uids = folders_of(world.settings, world.secrets), uids_for(world)
        self._section = world.settings.ephemeral
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._maker = maker_of(world)
        self._builds = Builds(world, bell, self._maker, self._section)
        self._questions = Questions(self._ask)
        self._fetching: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sweep = Sweep(world, self._folders, self._maker, self._builds.under_way)
        self._scales = Scales(self._section.session_max_bytes)
        self._bounds = Bounds(
            self._section.fetch_timeout_s,
            self._section.repository_max_bytes,
            self._section.repository_max_files,
        )
        self._archives = Archives(self._folders, self._section.private_hosts, self._bounds)
        self._gists = Gists(self._archives.document, self._section)

    async def run(self) -> None:
        """Work until cancelled, while this replica holds the lease."""
        if not self._section.on:
            return
        try:
            while True:
                await self._door.quiet(at_most_s=STAND_BACK_S)
                after, more = time.monotonic() + ROUND_S, False
                try:
                    more = await self._round()
                except (SQLAlchemyError, OSError) as error:
                    log.warning("launches.not_looked_at", error=type(error).__name__)
                await self._bell.wait(at_most_s=0 if more else LOOK_S)
                await asyncio.sleep(max(0.0, after - time.monotonic()))
        finally:
            await self._drop_all()

    async def _round(self) -> bool:
        """Whether launches are left for the next one."""
        await self._listeners.write(away_s=self._section.nobody_waits_s)
        found = await self._world.db.begin_in_one(self._seat)
        if found is None:
            await self._drop_all()
            return False
        changed, launches = found
        for launch_id in changed:
            self._bell.settle(launch_id)
        await self._sweep.round(launches)
        self._scales.forget({launch.id for launch in launches})
        begun: list[int] = []
        for launch in launches:
            if launch.stage in (Stage.READY, Stage.WARM):
                await self._look_after(launch)
            elif launch.id not in self._tasks:
                begun.append(launch.id)
        for launch_id in begun[:BEGUN_A_ROUND]:
            task = asyncio.create_task(self._advance(launch_id), name=f"launch.{launch_id}")
            self._tasks[launch_id] = task
            task.add_done_callback(lambda _, key=launch_id: self._tasks.pop(key, None))  # type: ignore[misc]
        return len(begun) > BEGUN_A_ROUND

    async def _seat(self, db: AsyncSession) -> tuple[list[int], list[Launch]] | None:
        """Give free places, and take those of who is gone: whose, and what is under way. None where another does it."""
        if not await lease.take(db, LEASE, self._owner, now=clock.now(), ttl=timedelta(seconds=LEASE_S)):
            return None
        gone: list[int] = []
        if (before := self._vigil.gone_before(clock.now())) is not None:
            gone = await store.give_up(db, before=before, now=clock.now())
        # Counted and given under the lease's row lock: no two replicas ever give the same place.
        seated = await store.seat(db, self._section)
        made = await store.ready_environments(db)
        await pool.reconcile(db, self._section, now=clock.now(), made=made.__contains__)
        return seated + gone, await store.under_way(db)

    async def _drop_all(self) -> None:
        running = [*self._tasks.values(), *self._builds.tasks, *self._scales.tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *self._questions.drop(), return_exceptions=True)

    # -- one launch ------------------------------------------------------------------------------------

    async def _advance(self, launch_id: int) -> None:
        steps: Mapping[Stage, Callable[[Launch], Awaitable[None]]] = {
            Stage.RESOLVING: self._resolve,
            Stage.FETCHING: self._fetch,
            Stage.WAITING: self._wait,
            Stage.BUILDING: self._build,
            Stage.LAUNCHING: self._launch,
            Stage.KEEPING: self._keep,
            Stage.ENDING: self._end,
        }
        while True:
            launch = await self._now(launch_id)
            if launch is None or launch.stage not in steps:
                return
            try:
                await async_fault(f"launch.{launch.stage.value}")
                await steps[launch.stage](launch)
            except Over:
                continue
            except HimaliaError as error:
                await self._fail(launch, error)
            except (SQLAlchemyError, OSError, BackendGone) as error:
                log.warning(
                    "launch.step_failed", launch=launch.id, stage=launch.stage.value, error=str(error)
                )
                await asyncio.sleep(1.0)
            except Exception:
                log.exception("launch.step_broke", launch=launch.id, stage=launch.stage.value)
                await self._fail(
                    launch, HimaliaError("Something went wrong in the hub.", remedy="Try again.")
                )

    async def _fail(self, launch: Launch, error: HimaliaError) -> None:
        log.info("launch.failed", launch=launch.id, spec=launch.spec[:200], why=error.message)
        failure = {"message": error.message, "remedy": error.remedy}
        with contextlib.suppress(Over):
            await self._move(launch, Stage.ENDING, failure=failure)

    async def _move(self, launch: Launch, stage: Stage, *lines: tuple[str, str], **values: object) -> None:
        """Over when somebody else has moved it meanwhile."""

        async def write(db: AsyncSession) -> bool:
            moved = await store.move(db, launch, stage, now=clock.now(), **values)
            for phase, message in lines if moved else ():
                store.say(db, launch.id, phase, message, now=clock.now())
            return moved

        moved = await self._world.db.begin_in_one(write)
        self._bell.settle(launch.id)
        if not moved:
            raise Over

    async def _now(self, launch_id: int) -> Launch | None:
        return await self._world.db.read_in_one(lambda db: db.get(Launch, launch_id))

    async def _say(self, launch: Launch, phase: str, message: str) -> None:
        async def write(db: AsyncSession) -> None:
            store.say(db, launch.id, phase, message, now=clock.now())

        await self._world.db.begin_in_one(write)
        self._bell.tell(launch.id)

    # -- the steps -------------------------------------------------------------------------------------

    async def _resolve(self, launch: Launch) -> None:
        # It may have been banned just before this launch was added.
        await self._world.db.read_in_one(lambda db: bans.check(db, launch.url))
        source = self.source(launch)
        await self._gists.check(source)
        commit = source.commit
        if commit is None:
            if not self._questions.answered(source, launch.created):
                await self._say(launch, "waiting", f"Asking {source.url} for {source.ref}")
            try:
                commit = await self._questions.commit(source, launch.created)
            except git.NoSuchRef:
                if source.packed or source.ref not in sources.RENAMED:
                    raise
                await self._say(
                    launch, "waiting", f"There is no branch {source.ref} any more; the default one is opened"
                )
                source = replace(source, ref=sources.DEFAULT_REF)
                commit = await self._questions.commit(source, launch.created)
        line = f"{source.label} at {source.ref} is commit {commit[:12]}"
        await self._move(launch, Stage.FETCHING, ("waiting", line), commit=commit, ref=source.ref)

    async def _ask(self, source: sources.Source) -> str:
        if source.packed:
            async with self._fetching[source.url]:
                return await self._archives.resolve(source.url, source.provider)
        remote = await git.checked(source.url, self._section.private_hosts)
        return await git.resolve(remote, source.ref, seconds=self._section.fetch_timeout_s)

    async def _fetch(self, launch: Launch) -> None:
        checkout = self._folders.checkout(launch.url, launch.commit)
        async with self._fetching[launch.url]:
            if not checkout.is_dir():
                await self._say(launch, "fetching", "Fetching the repository")
                await self._bring(launch, checkout)
        touch(checkout)
        touch(self._folders.mirror(launch.url))
        found = await self._maker.wanted(launch)
        said = (
            f"The environment is that of {', '.join(found.files)}"
            if found.files
            else "No packages are asked for"
        )
        stage = Stage.BUILDING if launch.build_only else Stage.WAITING
        await self._move(launch, stage, ("waiting", said), environment=found.key)
        self._bell.ring(launch.id)

    async def _bring(self, launch: Launch, checkout: Path) -> None:
        if launch.provider in sources.PACKED:
            await self._archives.bring(launch.url, launch.commit, launch.provider)
            return
        remote, mirror = (
            await git.checked(launch.url, self._section.private_hosts),
            self._folders.mirror(launch.url),
        )
        await git.fetch(remote, mirror, launch.commit, launch.ref, self._bounds)
        inner = Submodules(self._folders, self._section.private_hosts, self._bounds)
        await git.check_out(
            mirror, launch.commit, checkout, self._bounds, partial(inner.bring, launch.url, launch.commit)
        )

    async def _wait(self, launch: Launch) -> None:
        with self._bell.watch(launch.id) as watch:
            while True:
                now = await self._now(launch.id)
                if now is None or now.stage is not Stage.WAITING:
                    raise Over
                if now.seated:
                    break
                await watch.wait(LOOK_S)
        if await self._take_warm(launch):
            return
        if await self._maker.is_ready(launch.environment):
            await self._move(launch, Stage.LAUNCHING, ("built", "The environment is there already"))
        else:
            await self._move(launch, Stage.BUILDING)

    async def _take_warm(self, launch: Launch) -> bool:
        async with self._world.db.begin() as db:
            taken = await pool.claim(db, launch, now=clock.now())
        if taken:
            self._bell.settle(launch.id)
            self._bell.ring(launch.id)  # the next one is to be warmed
        return taken

    async def _build(self, launch: Launch) -> None:
        await self._builds.until_made(launch)
        end = {"ended_because": MADE} if launch.build_only else {}
        stage = Stage.ENDING if launch.build_only else Stage.LAUNCHING
        await self._move(launch, stage, ("built", "The environment is ready"), **end)

    async def _launch(self, launch: Launch) -> None:
        if self._uids:
            async with self._world.db.begin() as db:
                launch.uid = await store.take_uid(db, launch, self._uids)
        await async_fault("launch.after_uid")
        home = self._folders.home(launch)
        checkout = self._folders.checkout(launch.url, launch.commit)
        touch(self._folders.environments / launch.environment)
        await asyncio.to_thread(furnish_home, checkout, home, launch.uid)
        await async_fault("launch.after_home")
        async with self._world.db.begin() as db:
            server = await session.begin(db, launch, self.source(launch))
            await store.use_environment(db, launch.environment, now=clock.now())
        await async_fault("launch.after_begin")
        self._world.doorbell.ring(server.id)
        await until_ready(self._world, self._bell, launch, server)
        if launch.visitor != store.POOL:
            await self._move(launch, Stage.READY)
            return
        async with self._world.db.read() as db:
            server = await db.get_one(Server, server.id)
            launch = await db.get_one(Launch, launch.id)
        await pool.warm_up(self._world, launch, server)
        await async_fault("launch.warmed")
        await self._move(launch, Stage.WARM)

    async def _keep(self, launch: Launch) -> None:
        """Its files go into an account, and then it ends; it goes on when they cannot."""
        try:
            name = await keeping.keep(self._world, self._folders, launch)
        except HimaliaError as error:
            log.info("launch.not_kept", launch=launch.id, why=error.message)
            await self._move(launch, Stage.READY, keep_problem=f"{error.message} {error.remedy}".strip())
            return
        await async_fault("launch.after_kept")
        await self._move(launch, Stage.ENDING, kept_as=name, ended_because="kept by its visitor")

    async def _end(self, launch: Launch) -> None:
        async with self._world.db.begin() as db:
            theirs = await session.end(db, launch)
        for server_id in theirs:
            await until_gone(self._world, server_id)
        await async_fault("launch.after_stop")
        await asyncio.to_thread(clear_home, self._folders.home(launch))
        if launch.kept_as:
            await keeping.forget(self._world, launch)
        async with self._world.db.begin() as db:
            used = await session.forget(db, launch)
            stage = Stage.FAILED if launch.failure else Stage.ENDED
            if not await store.move(db, launch, stage, now=clock.now(), uid=None, seated=False, **used):
                raise Over
        self._bell.ring(launch.id)

    # -- those that are ready --------------------------------------------------------------------------

    async def _look_after(self, launch: Launch) -> None:
        """End a session whose server is gone, whose time is over, or whose files are too many."""
        await awake.look(self._world)
        async with self._world.db.read() as db:
            server = await db.get(Server, launch.server_id) if launch.server_id else None
        if server is not None and ready(server):
            if launch.stage is Stage.WARM:
                return
            due = cull.ending_of(server, launch.guest, (), self._world.settings)
            why = due.why if due is not None and due.at <= clock.now() else ""
            if self._scales.too_large(launch.id, self._folders.home(launch)):
                why = "its files take more room than a session may have"
        elif server is not None and server.phase not in (Phase.FAILED, Phase.STOPPED):
            return
        else:
            why = "its server ended"
        if why:
            log.info("launch.ends", launch=launch.id, guest=launch.guest, why=why)
            with contextlib.suppress(Over):
                await self._move(launch, Stage.ENDING, ended_because=why)

    # -- small things ----------------------------------------------------------------------------------

    def source(self, launch: Launch) -> sources.Source:
        """The link's repository, from its row: a host that was configured anew does not change what was opened."""
        return sources.Source(launch.provider, launch.spec, launch.url, launch.ref, launch.label, launch.stem)
