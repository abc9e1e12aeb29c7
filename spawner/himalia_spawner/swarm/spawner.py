"""The spawner: one service per incarnation of a server, its task followed to whatever machine runs it.

What Swarm holds is the truth: labels say whose a service is and which incarnation, so a hub that was killed at any
moment finds what it made, and several hubs see the same. A machine that cannot be reached may still run what it ran.
Its servers are UNKNOWN; after a stated time their services are removed, which makes Swarm end their tasks whenever
the machine returns, and only then are they said to be gone.
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from himalia_spawner.base import (
    Exit,
    Handle,
    Presence,
    Say,
    ServerRef,
    ServerSpec,
    Sighting,
    Spawner,
    silent,
)
from himalia_spawner.containers import images
from himalia_spawner.environ import environment_faults
from himalia_spawner.errors import BackendGone, SpawnFailed, SpawnRefused
from himalia_spawner.swarm import service, tasks
from himalia_spawner.swarm.ending import Ending, all_of, away
from himalia_spawner.swarm.folders import make_missing
from himalia_spawner.swarm.following import Following
from himalia_spawner.swarm.manager import Manager, NameTaken, NoManager
from himalia_spawner.swarm.settings import SwarmSettings
from himalia_spawner.swarm.tasks import Life, Service, View
from himalia_spawner.swarm.watching import Watcher


def _no_fault(point: str) -> None:
    """What runs outside of tests at each fault point."""


class SwarmSpawner:
    """Runs each server as a service with one task."""

    Settings: ClassVar[type[SwarmSettings]] = SwarmSettings

    def __init__(
        self,
        settings: SwarmSettings,
        *,
        hub_id: str,
        data_dir: Path,
        fault: Callable[[str], None] = _no_fault,
    ) -> None:
        self.node: str | None = None
        self._settings = settings
        self._hub = hashlib.sha256(hub_id.encode()).hexdigest()[:16]
        self._manager = Manager(settings, self._hub)
        self._lost_s = settings.node_lost_s
        self._watcher = Watcher(self._manager, resync_s=settings.resync_s, lost_s=self._lost_s)
        self._ending = Ending(self._manager, settings)
        self._following = Following(self._manager, self._ending, settings)
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._seen: set[str] = set()
        self._lost: dict[str, Exit] = {}
        self._fault = fault

    # -- the Protocol ---------------------------------------------------------------------------------

    async def start(self, spec: ServerSpec, say: Say = silent) -> Handle:
        """Make its service and follow the task until it runs, or follow the one that carries `spec.ref` already."""
        async with self._busy[spec.ref.name]:
            view = await self._manager.view(spec.ref.name)
            found = view.of(spec.ref)
            if found is not None and found.task is not None and found.life(self._lost_s) is Life.LOST:
                # Its task may run on: another one of this incarnation would share its token.
                await self._manager.remove(found.id)
                raise SpawnFailed(tasks.lost(found.task).reason)
            if found is None or found.life(self._lost_s) is Life.ENDED:
                await self._clear(view)
                found = await self._create(spec, say)
            handle = await self._following.until_running(found, spec, say)
            self._fault("after_start")
            self._lost.pop(spec.ref.name, None)
            self._seen.add(spec.ref.name)
            return handle

    async def look(self, name: str) -> Sighting:
        """What is there under `name`; UNKNOWN while the swarm, or the server's machine, does not answer."""
        try:
            return await self._look(name, await self._manager.view(name))
        except (BackendGone, NoManager) as error:
            return Sighting(Presence.UNKNOWN, detail=str(error))

    async def stop(self, ref: ServerRef, *, grace_s: float | None = None) -> None:
        """Remove its service, and wait until its machine has ended the task; another incarnation is left alone.

        A service keeps the time between SIGTERM and SIGKILL that it was made with: `grace_s` cannot change it.
        BackendGone while its machine does not answer; one that counts as lost is not waited for.
        """
        async with self._busy[ref.name]:
            view = await self._manager.view(ref.name)
            if (found := view.of(ref)) is not None:
                await self._manager.remove(found.id)
            await self._ending.wait(ref.name, lambda task: task.ref == ref)
            self._forget(ref.name)

    async def watch(self) -> AsyncIterator[str]:
        """Names, as one list after the other shows that something is not as before."""
        listing = asyncio.create_task(self._watcher.resync())
        try:
            while True:
                yield await self._watcher.changed.get()
        finally:
            listing.cancel()
            with suppress(asyncio.CancelledError):
                await listing

    async def list(self) -> builtins.list[Handle]:
        """Every server of this hub that runs at an address, on machines that answer."""
        try:
            view = await self._manager.view()
        except NoManager as error:
            raise BackendGone(str(error)) from error
        living = [one for one in view.services if one.life(self._lost_s) is Life.LIVE]
        handles = [tasks.handle_of(one, self._settings) for one in living]
        return [one for one in handles if one is not None]

    async def logs(self, name: str, lines: int = 50) -> builtins.list[str]:
        """The last lines its container wrote; they go with its service, and with its machine."""
        found = (await self._manager.view(name)).current(self._lost_s) if lines > 0 else None
        if found is None or (found.task is not None and found.task.is_away):
            return []
        return await self._manager.logs(found.id, lines)

    async def purge(self, name: str) -> None:
        """Remove what is left of a server that ended; SpawnFailed while it runs. Homes are never touched."""
        async with self._busy[name]:
            view = await self._manager.view(name)
            if any(one.life(self._lost_s) not in (Life.ENDED, Life.LOST) for one in view.services):
                raise SpawnFailed(f"server {name!r} still runs; stop it first")
            for one in view.services:
                await self._manager.remove(one.id)
            self._forget(name)

    async def close(self) -> None:
        """Let go of the manager; the services go on."""
        await self._manager.close()

    # -- start ----------------------------------------------------------------------------------------

    async def _clear(self, view: View) -> None:
        """Nothing of an earlier incarnation may run, or be about to, when the next one starts."""
        for one in view.services:
            match one.life(self._lost_s):
                case Life.ENDED | Life.LOST:
                    await self._manager.remove(one.id)
                case Life.CUT:
                    raise BackendGone(away(one.task))
                case _:
                    raise SpawnFailed(
                        f"an earlier incarnation of server {one.ref.name!r} still runs; stop it first"
                    )
        if left := all_of(view):
            await self._ending.wait(left[0].ref.name, lambda _task: True)

    async def _create(self, spec: ServerSpec, say: Say) -> Service:
        env = service.environment(spec, self._settings)
        if faults := environment_faults(env):
            raise SpawnRefused("; ".join(faults))
        image = await images.ensure(self._manager.engine, self._settings, spec.image, say)
        await self._make_folders(spec)
        body = service.body(spec, self._settings, image, env, hub=self._hub)
        self._fault("before_create")
        try:
            await self._manager.create(body)
        except NameTaken as error:
            found = (await self._manager.view(spec.ref.name)).of(spec.ref)
            if found is None:
                raise SpawnRefused(
                    f"a service named {body['Name']!r} is there already and not ours; remove it"
                ) from error
            return found  # another hub was faster
        self._fault("after_create")
        say("The service is made; the swarm looks for a machine")
        found = (await self._manager.view(spec.ref.name)).of(spec.ref)
        if found is None:
            raise SpawnFailed("its service was removed by somebody else as it was started")
        return found

    async def _make_folders(self, spec: ServerSpec) -> None:
        """In a thread: storage on the network may answer late, or never."""
        limit_s = self._settings.request_timeout_s
        making = asyncio.to_thread(make_missing, service.folders(spec, self._settings), self._settings)
        try:
            await asyncio.wait_for(making, limit_s)
        except TimeoutError:
            raise BackendGone(f"the storage of homes does not answer within {limit_s:g} seconds") from None

    # -- seeing ---------------------------------------------------------------------------------------

    async def _look(self, name: str, view: View) -> Sighting:
        found = view.current(self._lost_s)
        if found is None:
            return self._without_service(name, view)
        life = found.life(self._lost_s)
        if life is Life.CUT:
            return Sighting(Presence.UNKNOWN, detail=away(found.task))
        if life is Life.LOST and found.task is not None:
            await self._manager.remove(found.id)  # first the fence, then the word that it is gone
            self._lost[name] = tasks.lost(found.task)
            return Sighting(Presence.ABSENT, exit=self._lost[name])
        if life is Life.ENDED:
            how = tasks.exit_of(found.task) if found.task else tasks.REMOVED
            tail = tuple(await self.logs(name, self._settings.log_tail_lines))
            return Sighting(Presence.ABSENT, exit=replace(how, log_tail=tail))
        self._seen.add(name)
        handle = tasks.handle_of(found, self._settings)
        detail = found.task.words if found.task else ""
        return Sighting(Presence.PRESENT, handle, detail=detail, listening=handle is not None)

    def _without_service(self, name: str, view: View) -> Sighting:
        """Its service is removed; its task may not have ended yet."""
        lives = {one.life(self._lost_s): one for one in view.ghosts}
        if Life.CUT in lives:
            return Sighting(Presence.UNKNOWN, detail=away(lives[Life.CUT]))
        if leaving := lives.get(Life.LEAVING) or lives.get(Life.COMING) or lives.get(Life.LIVE):
            return Sighting(Presence.PRESENT, detail=f"{leaving.where} is ending it", listening=False)
        if Life.LOST in lives:
            return Sighting(Presence.ABSENT, exit=tasks.lost(lives[Life.LOST]))
        if name in self._lost:
            return Sighting(Presence.ABSENT, exit=self._lost[name])
        return Sighting(Presence.ABSENT, exit=tasks.REMOVED if name in self._seen else None)

    def _forget(self, name: str) -> None:
        self._seen.discard(name)
        self._lost.pop(name, None)


_fits: type[Spawner] = SwarmSpawner
