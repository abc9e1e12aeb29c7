"""A spawner of dictionaries, for tests of the hub: it keeps the contract, and fails when told to."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from himalia_spawner.base import (
    Exit,
    Handle,
    Kept,
    Measure,
    Presence,
    Say,
    ServerRef,
    ServerSpec,
    Sighting,
    Spawner,
    silent,
)
from himalia_spawner.errors import BackendGone, SpawnError, SpawnFailed, SpawnRefused


class FakeSettings(BaseModel, extra="forbid", frozen=True):
    """[spawner.fake] — nothing to set."""


@dataclass(slots=True)
class FakeServer:
    """One server of the fake backend; `env` is what it would see."""

    handle: Handle
    env: dict[str, str]
    running: bool = True
    exit: Exit | None = None
    use: Measure = field(default_factory=lambda: Measure(64 * 2**20, 1.0))
    kept_s: float = 0.0
    """How long something of it waits for the next start, once it has ended."""


@dataclass(slots=True)
class FakeBackend:
    """What outlives a hub: share one between FakeSpawners to restart the hub around it.

    `unreachable` makes every question fail as a lost engine does; `refuse_with` is raised by the next start;
    `listening` False makes servers present but unroutable; `calls` records what was asked, in order.
    """

    servers: dict[str, FakeServer] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    listening: bool = True
    unreachable: bool = False
    refuse_with: SpawnError | None = None
    address: Callable[[ServerSpec], str] = lambda spec: f"http+unix://%2Ffake%2F{spec.ref.name}"
    calls: list[tuple[str, str]] = field(default_factory=list)
    watchers: set[asyncio.Queue[str]] = field(default_factory=set)

    def end(self, name: str, how: Exit, *words: str) -> None:
        """The server ends by itself, saying `words`."""
        server = self.servers[name]
        self.logs.setdefault(name, []).extend(words)
        server.running = False
        server.exit = replace(how, log_tail=tuple(self.logs[name][-20:]))
        self.tell(name)

    def tell(self, name: str) -> None:
        """Let every watcher know that something changed."""
        for queue in self.watchers:
            queue.put_nowait(name)


class FakeSpawner:
    """Fits the Spawner Protocol without a process. A spec's command may say `crash` or `refuse`."""

    Settings: ClassVar[type[FakeSettings]] = FakeSettings

    def __init__(
        self,
        settings: FakeSettings | None = None,
        *,
        hub_id: str = "",
        data_dir: Path | None = None,
        backend: FakeBackend | None = None,
    ) -> None:
        self.node: str | None = None
        self.backend = backend or FakeBackend()
        # From the beginning, not from the first watch(): what ends before the hub listens must be told too.
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self.backend.watchers.add(self._changed)

    async def start(self, spec: ServerSpec, say: Say = silent) -> Handle:
        """Put it into the dictionary."""
        self._ask("start", spec.ref.name)
        known = self.backend.servers.get(spec.ref.name)
        if known is not None and known.running:
            if known.handle.ref == spec.ref:
                return known.handle
            raise SpawnFailed(f"an earlier incarnation of server {spec.ref.name!r} still runs; stop it first")
        if (error := self.backend.refuse_with) is not None:
            self.backend.refuse_with = None
            raise error
        if spec.command[:1] == ("refuse",):
            raise SpawnRefused("the command 'refuse' is not found; install it or give its whole path")
        url = self.backend.address(spec)
        backend = {"JUPYTERHUB_SERVICE_URL": url + spec.prefix, "HOME": "/", "USER": spec.username}
        server = FakeServer(Handle(spec.ref, url), {**spec.env, **backend, "SHELL": "/bin/sh"})
        self.backend.servers[spec.ref.name] = server
        self.backend.logs[spec.ref.name] = []
        if spec.command[:1] == ("crash",):
            self.backend.end(
                spec.ref.name, Exit("the server ended with status 3", status=3), *spec.command[1:]
            )
        return server.handle

    async def look(self, name: str) -> Sighting:
        """What the dictionary says, UNKNOWN while the backend is unreachable."""
        if self.backend.unreachable:
            return Sighting(Presence.UNKNOWN, detail="the fake backend is unreachable")
        self.backend.calls.append(("look", name))
        server = self.backend.servers.get(name)
        if server is None or not server.running:
            kept = Kept(server.handle.ref, server.kept_s) if server and server.kept_s else None
            return Sighting(Presence.ABSENT, exit=server.exit if server else None, kept=kept)
        listening = self.backend.listening
        detail = "" if listening else "the server does not listen yet"
        return Sighting(Presence.PRESENT, server.handle, listening=listening, detail=detail)

    async def stop(self, ref: ServerRef, *, grace_s: float | None = None) -> None:
        """Take it out of the dictionary, if it is this incarnation."""
        self._ask("stop", ref.name)
        server = self.backend.servers.get(ref.name)
        if server is not None and server.handle.ref == ref:
            del self.backend.servers[ref.name]
            self.backend.tell(ref.name)

    async def watch(self) -> AsyncIterator[str]:
        """What the backend tells."""
        while True:
            yield await self._changed.get()

    async def list(self) -> builtins.list[Handle]:
        """All that run."""
        self._ask("list", "")
        return [server.handle for server in self.backend.servers.values() if server.running]

    async def logs(self, name: str, lines: int = 50) -> builtins.list[str]:
        """What was said."""
        return self.backend.logs.get(name, [])[-lines:] if lines > 0 else []

    async def measure(self, names: Collection[str]) -> dict[str, Measure]:
        """What the dictionary says of those that run."""
        if self.backend.unreachable:
            return {}
        servers = self.backend.servers
        return {name: servers[name].use for name in names if name in servers and servers[name].running}

    async def purge(self, name: str) -> None:
        """Forget all but a running server."""
        self._ask("purge", name)
        server = self.backend.servers.get(name)
        if server is not None and server.running:
            raise SpawnFailed(f"server {name!r} still runs; stop it first")
        self.backend.servers.pop(name, None)
        self.backend.logs.pop(name, None)

    async def close(self) -> None:
        """Hear no more of the backend."""
        self.backend.watchers.discard(self._changed)

    def _ask(self, what: str, name: str) -> None:
        if self.backend.unreachable:
            raise BackendGone("the fake backend is unreachable")
        self.backend.calls.append((what, name))


_fits: type[Spawner] = FakeSpawner
