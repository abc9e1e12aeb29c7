"""The spawner: one container per server, on one engine.

Names are deterministic and labels carry hub, incarnation and a fingerprint of the specification, so that a hub that
was killed at any moment finds what it made, and makes nothing twice: the engine itself refuses a second container of
one name.
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import math
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from docker import errors

from himalia_spawner.base import (
    BuildsImages,
    Handle,
    ImageBuilder,
    Measure,
    Presence,
    Say,
    ServerRef,
    ServerSpec,
    Sighting,
    Spawner,
    silent,
)
from himalia_spawner.containers import asked, building, images
from himalia_spawner.containers.asked import CANNOT_RUN, Image
from himalia_spawner.containers.engine import Engine, refusal, words
from himalia_spawner.docker import acts, container, network, volumes
from himalia_spawner.docker.container import Place
from himalia_spawner.docker.measuring import measured
from himalia_spawner.docker.ownership import Ownership
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.docker.watching import Watcher
from himalia_spawner.environ import environment_faults
from himalia_spawner.errors import BackendGone, SpawnFailed, SpawnRefused
from himalia_spawner.ledger import runtime_folder

Found = Mapping[str, Any]
"""What the engine says of one container (Engine API, ContainerInspect)."""
RUNNING = ("running", "paused", "restarting")
NETWORK_ATTEMPTS = 5


def _no_fault(point: str) -> None:
    """What runs outside of tests at each fault point."""


class DockerSpawner:
    """Runs each server as a container of its own."""

    Settings: ClassVar[type[DockerSettings]] = DockerSettings

    def __init__(
        self,
        settings: DockerSettings,
        *,
        hub_id: str,
        data_dir: Path,
        fault: Callable[[str], None] = _no_fault,
    ) -> None:
        self.node: str | None = None
        self.files_by_account, self.files_end_with_person = False, settings.removed_volumes == "delete"
        self._settings = settings
        runtime = runtime_folder(settings.runtime_dir, data_dir.absolute())
        hub = hashlib.sha256(f"{hub_id}\0{runtime}".encode()).hexdigest()[:16]
        self._place = Place(hub, runtime, runtime / "hub")
        self._place.hub_dir.mkdir(mode=0o755, exist_ok=True)
        wanted = settings.transport == "unix"
        self.hub_socket = str(self._place.hub_dir / container.HUB_SOCKET) if wanted else None
        self._engine = Engine(
            settings.url, timeout_s=settings.request_timeout_s, concurrency=settings.concurrency
        )
        self._ownership = Ownership(self._engine, settings, self._place)
        self._making_network = asyncio.Lock()
        self._watcher = Watcher(self._engine, self._place, resync_s=settings.resync_s)
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._seen: set[str] = set()
        self._fault = fault
        self.images: ImageBuilder = building.Builder(self._engine, settings.image, self._place.hub)
        low, high = settings.guest_uids
        self.guest_uids = range(low, high + 1) if os.geteuid() == 0 else range(0)

    # -- the Protocol ---------------------------------------------------------------------------------

    async def start(self, spec: ServerSpec, say: Say = silent) -> Handle:
        """Make and start its container, or return the handle of the one that runs under `spec.ref` already."""
        async with self._busy[spec.ref.name]:
            found = await self._inspect(spec.ref.name)
            if found is not None:
                self._must_be_ours(spec.ref.name, found)
                if found["State"]["Status"] in RUNNING:
                    return self._adopted(spec, found)
                if self._is_unstarted(spec, found):
                    return await self._run(spec, found["Id"], found["Image"])
                await acts.remove(self._engine, found["Id"])
            return await self._create(spec, say)

    async def look(self, name: str) -> Sighting:
        """What is there under `name`; UNKNOWN while the engine does not answer."""
        try:
            found = await self._inspect(name)
        except BackendGone as error:
            return Sighting(Presence.UNKNOWN, detail=str(error))
        if found is None or not self._is_ours(found):
            gone = name in self._seen
            return Sighting(Presence.ABSENT, exit=container.REMOVED if gone else None)
        if found["State"]["Status"] in RUNNING:
            self._seen.add(name)
            handle = container.handle_of(found, self._settings, self._place)
            if handle is None:
                return Sighting(Presence.UNKNOWN, detail="its address is not known yet")
            return Sighting(Presence.PRESENT, handle, detail=self._detail(name, found))
        how = container.exit_of(found)
        if how is None:
            return Sighting(Presence.ABSENT)
        tail = tuple(await self.logs(name, self._settings.log_tail_lines))
        return Sighting(Presence.ABSENT, exit=replace(how, log_tail=tail))

    async def stop(self, ref: ServerRef, *, grace_s: float | None = None) -> None:
        """SIGTERM, SIGKILL after the grace, and away with the container; another incarnation is left alone."""
        async with self._busy[ref.name]:
            found = await self._inspect(ref.name)
            if found is None or not self._is_ours(found):
                self._forget(ref.name)
                return
            if found["Config"]["Labels"][asked.INCARNATION] != ref.incarnation:
                return
            self._forget(ref.name)
            if found["State"]["Status"] in RUNNING:
                grace = self._settings.stop_timeout_s if grace_s is None else math.ceil(grace_s)
                await acts.end(
                    self._engine, found["Id"], grace_s=grace, answer_s=self._settings.request_timeout_s
                )
            await acts.remove(self._engine, found["Id"])
            (self._place.folder(ref.name) / container.SOCKET).unlink(missing_ok=True)

    async def watch(self) -> AsyncIterator[str]:
        """Names as the engine's events tell them, and what a full list finds that no event told."""
        self._watcher.listen()
        listing = asyncio.create_task(self._watcher.resync())
        try:
            while True:
                yield await self._watcher.changed.get()
        finally:
            listing.cancel()
            with suppress(asyncio.CancelledError):
                await listing

    async def list(self) -> builtins.list[Handle]:
        """Every container of this hub that runs."""
        wanted = {"label": f"{asked.HUB}={self._place.hub}"}
        running = await self._engine.see(lambda client: client.containers(filters=wanted))
        names = [one["Labels"][asked.NAME] for one in running]
        sightings = await asyncio.gather(*(self.look(name) for name in names))
        return [one.handle for one in sightings if one.handle is not None]

    async def logs(self, name: str, lines: int = 50) -> builtins.list[str]:
        """The last lines the container wrote; they go with it."""
        if lines <= 0:
            return []
        try:
            text = await self._engine.ask(
                lambda client: client.logs(self._place.container(name), stdout=True, stderr=True, tail=lines)
            )
        except errors.NotFound:
            return []
        except errors.APIError as error:
            return [f"(the engine cannot show its log: {words(error)})"]
        return bytes(text).decode(errors="replace").splitlines()[-lines:]

    async def measure(self, names: Collection[str]) -> dict[str, Measure]:
        """What the engine counts for each container."""
        return await measured(self._engine, {name: self._place.container(name) for name in names})

    async def purge(self, name: str) -> None:
        """Remove its folder, and its volumes as the policy says; SpawnFailed while it runs."""
        async with self._busy[name]:
            found = await self._inspect(name)
            if found is not None and self._is_ours(found):
                if found["State"]["Status"] in RUNNING:
                    raise SpawnFailed(f"server {name!r} still runs; stop it first")
                await acts.remove(self._engine, found["Id"])
            self._forget(name)
            await self._ownership.clear(name)
            await volumes.remove(self._engine, self._settings, self._place, name)
            folder = self._place.folder(name)
            (folder / container.SOCKET).unlink(missing_ok=True)
            with suppress(OSError):  # what a container left in there is small and in nobody's way
                folder.rmdir()

    async def close(self) -> None:
        """Let go of the engine; the containers go on."""
        self._watcher.close()
        await self._engine.close()

    # -- start ----------------------------------------------------------------------------------------

    async def _create(self, spec: ServerSpec, say: Say) -> Handle:
        if spec.guest is not None and spec.image:
            image = await images.built(self._engine, spec.image)
        else:
            image = await images.ensure(self._engine, self._settings, spec.image, say)
        transport = container.transport_of(self._settings, spec, image)
        hub_url = self._hub_url(spec, image, transport)
        await network.ensure(self._engine, self._settings, self._place, self._making_network)
        births = await volumes.ensure(self._engine, self._settings, self._place, spec)
        if transport == "unix":
            self._prepare_folder(spec.ref.name)
        self._fault("before_create")
        options = self._options(spec, image, transport, hub_url)
        name = self._place.container(spec.ref.name)
        try:
            made = await acts.create(self._engine, name, options)
        except errors.APIError as error:
            if error.status_code == 409:
                return await self._made_by_another(spec)
            raise refusal(error) from error
        self._fault("after_create")
        say("The container is made")
        path = options["environment"].get("PATH") or image.path
        await self._must_have(made["Id"], asked.command(spec, image)[len(image.entrypoint)], path)
        return await self._run(spec, made["Id"], image.id, births)

    async def _made_by_another(self, spec: ServerSpec) -> Handle:
        """The name was taken between look and create: by another hub of ours, or by a stranger."""
        found = await self._inspect(spec.ref.name)
        if found is not None:
            self._must_be_ours(spec.ref.name, found)
            if found["State"]["Status"] in RUNNING:
                return self._adopted(spec, found)
        raise BackendGone(f"server {spec.ref.name!r} is just being started by another hub")

    async def _must_have(self, container_id: str, program: str, path: str) -> None:
        """The engine's init starts well without it, and ends a moment later: too late to be a refusal."""
        places = container.places(program, path)
        for place in places:
            if await acts.has_file(self._engine, container_id, place):
                return
        if places:
            await acts.remove(self._engine, container_id)
            raise SpawnRefused(f"its image holds no {program}; name another image or another command")

    async def _run(
        self, spec: ServerSpec, container_id: str, image_id: str, births: Mapping[str, str] | None = None
    ) -> Handle:
        name = spec.ref.name
        try:
            await self._ownership.settle(spec, container_id, image_id, births)
            await self._start_on_its_network(container_id)
        except SpawnRefused:
            await acts.remove(self._engine, container_id)
            raise
        except errors.APIError as error:
            await acts.remove(self._engine, container_id)
            raise refusal(error) from error
        self._fault("after_start")
        found = await self._inspect(name)
        handle = container.handle_of(found, self._settings, self._place) if found is not None else None
        if handle is None:
            return await self._dead_on_arrival(name, found)
        self._seen.add(name)
        return handle

    async def _start_on_its_network(self, container_id: str) -> None:
        for left in reversed(range(NETWORK_ATTEMPTS)):
            try:
                await self._engine.ask(lambda client: client.start(container_id))
                return
            except errors.APIError as error:
                if not left or not network.is_ambiguous(error):
                    raise
                await network.ensure(self._engine, self._settings, self._place, self._making_network)

    async def _dead_on_arrival(self, name: str, found: Found | None) -> Handle:
        """It ended before its port was known: there is no address to give."""
        how = container.exit_of(found) if found is not None else None
        tail = tuple(await self.logs(name, self._settings.log_tail_lines))
        if found is not None:
            await acts.remove(self._engine, found["Id"])
        if how is not None and how.status in CANNOT_RUN:
            raise SpawnRefused(
                f"the command cannot be run in this image: {' '.join(tail)[-300:] or how.reason}"
            )
        raise SpawnFailed(how.reason if how else "its container vanished as it was started", log_tail=tail)

    def _options(self, spec: ServerSpec, image: Image, transport: str, hub_url: str) -> dict[str, Any]:
        env = container.environment(spec, self._settings, transport, hub_url=hub_url)
        if faults := environment_faults(env):
            raise SpawnRefused("; ".join(faults))
        host = container.host_config(spec, self._settings, self._place, transport)
        command = asked.command(spec, image)
        user = container.user_of(spec, self._settings)
        parts = {"env": env, "host": host, "command": command, "user": user}
        print_ = asked.fingerprint(image, parts)
        return {
            "image": image.id, "entrypoint": command[:1], "command": command[1:], "environment": env,
            "user": user, "working_dir": self._settings.home, "hostname": spec.ref.name[:63],
            "labels": container.labels(spec, self._place, transport, print_), "host": host,
            "ports": [self._settings.port] if transport == "port" else [],
        }  # fmt: skip

    def _hub_url(self, spec: ServerSpec, image: Image, transport: str) -> str:
        if transport == "unix":
            if self.hub_socket is None or not Path(self.hub_socket).is_socket():
                raise SpawnRefused(
                    f"the hub does not listen on {self.hub_socket}; set spawner.docker.transport to 'port'"
                )
            return container.socket_url(f"{container.HUB_DIR}/{container.HUB_SOCKET}")
        if not self._settings.hub_url:
            raise SpawnRefused(
                f"the image {spec.image or self._settings.image!r} needs an address at which it reaches the hub; "
                "set spawner.docker.hub_url and hub.also_listen"
            )
        return self._settings.hub_url

    def _prepare_folder(self, name: str) -> None:
        """The container's user writes into it; nobody else comes past the runtime folder above it."""
        folder = self._place.folder(name)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o777)
        (folder / container.SOCKET).unlink(missing_ok=True)

    def _adopted(self, spec: ServerSpec, found: Found) -> Handle:
        if found["Config"]["Labels"][asked.INCARNATION] != spec.ref.incarnation:
            raise SpawnFailed(f"an earlier incarnation of server {spec.ref.name!r} still runs; stop it first")
        handle = container.handle_of(found, self._settings, self._place)
        if handle is None:
            raise BackendGone(f"the address of server {spec.ref.name!r} is not known yet")
        return handle

    def _is_unstarted(self, spec: ServerSpec, found: Found) -> bool:
        """A hub was killed between making and starting it; its incarnation stands for its specification."""
        marks = found["Config"]["Labels"]
        return bool(
            found["State"]["Status"] == "created" and marks[asked.INCARNATION] == spec.ref.incarnation
        )

    # -- seeing ---------------------------------------------------------------------------------------

    async def _inspect(self, name: str) -> Found | None:
        try:
            found: Found = await self._engine.see(
                lambda client: client.inspect_container(self._place.container(name))
            )
        except errors.NotFound:
            return None
        return found

    def _is_ours(self, found: Found) -> bool:
        labels: Mapping[str, str] = found["Config"].get("Labels") or {}
        return labels.get(asked.HUB, "") == self._place.hub

    def _must_be_ours(self, name: str, found: Found) -> None:
        if not self._is_ours(found):
            raise SpawnRefused(
                f"a container named {self._place.container(name)!r} is there already and not ours; "
                "remove or rename it"
            )

    def _detail(self, name: str, found: Found) -> str:
        if found["State"]["Status"] == "paused":
            return "its container is paused"
        if name in self._watcher.out_of_memory:
            return "a process in it was ended because the memory limit was reached"
        return ""

    def _forget(self, name: str) -> None:
        self._seen.discard(name)
        self._watcher.out_of_memory.discard(name)


_fits: type[Spawner] = DockerSpawner
_builds: type[BuildsImages] = DockerSpawner
