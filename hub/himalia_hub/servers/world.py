"""The outside as the reconciler sees it: one look at backend, probe and proxy, for one server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import unquote, urlsplit

from himalia_hub.db.engine import Database
from himalia_hub.faults import async_fault
from himalia_hub.metrics.figures import Figures
from himalia_hub.pace import Pace
from himalia_hub.replicas.together import Together
from himalia_hub.secrets import Secrets
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.furnish import Furnish, nothing
from himalia_hub.servers.looks import Looks
from himalia_hub.servers.models import Server
from himalia_hub.servers.spec import incarnation_of
from himalia_hub.servers.state import Desired, Phase, Seen
from himalia_hub.servers.view import routespec, server_prefix
from himalia_hub.settings import HubSettings
from himalia_proxy.base import Proxy, ProxyError, Route
from himalia_proxy.sockets import pinned
from himalia_spawner.base import Presence, Sighting, Spawner
from himalia_spawner.errors import BackendGone

PROBE_TIMEOUT_S = 2.0
KNOCK_S = 0.01


class Probe:
    """Asks a server for `<prefix>api`, which every Jupyter server answers without credentials."""

    async def answers(self, url: str, prefix: str, *, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """Whether it answered below 500 in time. A redirect counts: something HTTP-shaped is alive there."""
        # The first line is all that counts: a whole client takes five times as long for it, at every start.
        parts = urlsplit(url)
        host = "server" if parts.scheme == "http+unix" else parts.netloc
        asked = f"GET {prefix}api HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await _connect(url)
                try:
                    writer.write(asked.encode())
                    said = await reader.readline()
                finally:
                    writer.close()
        except (OSError, ValueError, TimeoutError):
            return False
        protocol, _, rest = said.partition(b" ")
        return protocol.startswith(b"HTTP/") and rest[:3].isdigit() and int(rest[:3]) < 500

    async def listens_soon(self, url: str, *, within_s: float) -> None:
        """Return as soon as a server that refused connections takes them, or when the time is over.

        Knocking costs a tenth of a look, so it can be done often: a fresh interpreter takes half a second to load its
        code, and shall not be found a quarter of a second late. At an address that takes connections already, only
        time helps.
        """
        if await _takes_connections(url):
            await asyncio.sleep(within_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not await _takes_connections(url):
                    await asyncio.sleep(KNOCK_S)


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    if parts.scheme == "http+unix":
        with pinned(unquote(parts.netloc)) as path:
            return await asyncio.open_unix_connection(path)
    secured = parts.scheme == "https"
    return await asyncio.open_connection(
        parts.hostname, parts.port or (443 if secured else 80), ssl=secured or None
    )


async def _takes_connections(url: str) -> bool:
    try:
        _, writer = await _connect(url)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


@dataclass(slots=True)
class World:
    """Everything a step may touch."""

    settings: HubSettings
    db: Database
    spawner: Spawner
    proxy: Proxy
    secrets: Secrets
    doorbell: Doorbell
    hub_url: str
    probe: Probe = field(default_factory=Probe)
    figures: Figures = field(default_factory=Figures)
    furnish: Furnish = nothing
    looks: Looks = field(default_factory=Looks)
    together: Together = field(default_factory=Together)
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look found. `why` says what could not be asked, when `seen` is UNKNOWN."""

    seen: Seen
    routed: bool
    sighting: Sighting | None = None
    why: str = ""


async def observe(
    world: World, server: Server, username: str, *, surely_unrouted: bool = False
) -> Observation:
    """What is there now for this server. Never guesses: what cannot be asked makes it UNKNOWN.

    `surely_unrouted` spares the question to the proxy where no step but putting the route can follow from it.
    """
    began = perf_counter()
    try:
        sighting = await world.spawner.look(server.backend_name)
    except BackendGone as error:
        world.figures.looked(None, perf_counter() - began)
        return Observation(Seen.UNKNOWN, routed=False, why=str(error))
    world.figures.looked(sighting.presence, perf_counter() - began)
    if sighting.presence is Presence.UNKNOWN:
        return Observation(Seen.UNKNOWN, routed=False, sighting=sighting, why=sighting.detail)
    spec = routespec(world.settings, username, server.name)
    prefix = server_prefix(world.settings, username, server.name)
    unrouted = surely_unrouted or _rests_unrouted(server, sighting)
    asked = _seen(world, server, sighting, prefix)
    try:
        route, seen = (None, await asked) if unrouted else await asyncio.gather(world.proxy.get(spec), asked)
    except ProxyError as error:
        return Observation(
            Seen.UNKNOWN, routed=False, sighting=sighting, why=f"the proxy cannot be asked: {error}"
        )
    await async_fault("observe.after")
    return Observation(seen, routed=_is_routed(server, seen, sighting, route), sighting=sighting)


def _rests_unrouted(server: Server, sighting: Sighting) -> bool:
    """Whether its route was seen gone when its row came to rest, and nothing has happened since but a wish to run.

    A route that somebody put there all the same is replaced by the start, and `routes/sync.py` finds it before that.
    """
    absent = sighting.presence is Presence.ABSENT
    return absent and server.phase is Phase.STOPPED and server.desired is Desired.RUNNING


async def _seen(world: World, server: Server, sighting: Sighting, prefix: str) -> Seen:
    if sighting.presence is Presence.ABSENT:
        return Seen.ABSENT
    if server.desired is Desired.STOPPED:
        return Seen.SILENT  # it is going to be stopped: whose it is and whether it answers does not matter
    if sighting.handle is not None and sighting.handle.ref.incarnation != incarnation_of(server):
        return Seen.STALE
    if sighting.handle is None or not sighting.listening:
        return Seen.SILENT
    patience_s = PROBE_TIMEOUT_S if server.phase is not Phase.READY else PROBE_TIMEOUT_S / 2
    return (
        Seen.ANSWERING
        if await world.probe.answers(sighting.handle.url, prefix, timeout_s=patience_s)
        else Seen.SILENT
    )


def _is_routed(server: Server, seen: Seen, sighting: Sighting, route: Route | None) -> bool:
    """A route counts while it must go; where it should be, only with the right target."""
    if route is None:
        return False
    keeps = server.desired is Desired.RUNNING and seen in (Seen.SILENT, Seen.ANSWERING)
    if not keeps or sighting.handle is None:
        return True
    return route.target == sighting.handle.url
