"""From a spec to the service that Swarm is asked for. Pure.

Each incarnation has a service of its own name: an old one's task, on a machine that was cut off, never carries the
name, the address or the token of its successor.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from himalia_spawner import limits
from himalia_spawner.base import ServerRef, ServerSpec
from himalia_spawner.containers import asked
from himalia_spawner.containers.asked import HUB, INCARNATION, NAME, SPEC, TRANSPORT, USER, Image
from himalia_spawner.errors import SpawnRefused
from himalia_spawner.names import home_name, short_name
from himalia_spawner.swarm.settings import SwarmSettings

HOME_LOCK = "HIMALIA_HOME_LOCK"
"""Names the file that our own server keeps locked while it uses the home."""
MACHINE = "HIMALIA_NODE={{.Node.Hostname}}"
"""Swarm writes in where the task runs: so the lock says who holds it."""
LOCKS = ".local/share/himalia/locks"
_READABLE = 20
_NANO = 1_000_000_000


def service_name(hub: str, ref: ServerRef) -> str:
    """A DNS label that no other incarnation shares."""
    return (
        f"himalia-{hub[:8]}-{ref.name[:_READABLE].strip('-')}-{short_name(f'{ref.name}/{ref.incarnation}')}"
    )


def hub_url(spec: ServerSpec, settings: SwarmSettings) -> str:
    """The hub's address as configured. SpawnRefused when the one servers would be told is this machine's own."""
    told = settings.hub_url or spec.env.get("JUPYTERHUB_API_URL", "")
    host = urlsplit(told).hostname or ""
    if not told or host == "localhost" or host.startswith("127.") or host == "::1":
        raise SpawnRefused(
            f"a server on another machine cannot reach the hub at {told or 'no address at all'}; "
            "set spawner.swarm.hub_url and hub.also_listen"
        )
    return settings.hub_url


def environment(spec: ServerSpec, settings: SwarmSettings) -> dict[str, str]:
    """The whole environment of a server, as it must arrive."""
    lock = f"{settings.home}/{LOCKS}/{short_name(spec.ref.name)}"
    return asked.environment(
        spec,
        settings,
        base=f"http://0.0.0.0:{settings.port}",
        hub_url=hub_url(spec, settings),
        more={HOME_LOCK: lock},
    )


def literal(text: str) -> str:
    """`text` as Swarm must be told it, for it takes environment and mounts for Go templates."""
    return text.replace("{{", '{{"{{"}}')


def folders(spec: ServerSpec, settings: SwarmSettings) -> list[str]:
    """The folders of machines that this server mounts."""
    return [source for source, _, _ in _placed(spec, settings) if source.startswith("/")]


def body(
    spec: ServerSpec, settings: SwarmSettings, image: Image, env: dict[str, str], *, hub: str
) -> dict[str, Any]:
    """What POST /services/create takes (Engine API 1.41)."""
    command = asked.command(spec, image)
    marks = {
        HUB: hub, NAME: spec.ref.name, INCARNATION: spec.ref.incarnation, TRANSPORT: settings.transport,
        USER: spec.username,
    }  # fmt: skip
    container = {
        # By digest or id: by its name each machine would ask the registry at each start, and may have another image.
        "Image": image.digest or image.id,
        "Command": command[:1],
        "Args": command[1:],
        "Env": [*(literal(f"{name}={value}") for name, value in env.items()), MACHINE],
        "Hostname": spec.ref.name[:63],
        "Dir": settings.home,
        "User": settings.user,
        "Mounts": _mounts(spec, settings, marks),
        "ReadOnly": settings.read_only,
        "Init": True,  # reaps what kernels leave behind
        "CapabilityDrop": ["ALL"],
        "Privileges": {"NoNewPrivileges": True},  # engines before 27 do not know it and let it be
        "StopGracePeriod": settings.stop_timeout_s * _NANO,
    }
    task = {
        "ContainerSpec": container,
        "Resources": _resources(spec.limits.memory, spec.limits.cpus, spec.limits.pids, settings),
        "RestartPolicy": {"Condition": "none"},  # whether it starts again is its person's wish, not Swarm's
        "Placement": {
            "Constraints": list(settings.constraints),
            "Preferences": [{"Spread": {"SpreadDescriptor": label}} for label in settings.spread_over],
        },
        "Networks": [{"Target": settings.network}] if settings.network else [],
    }
    marks[SPEC] = asked.fingerprint(image, task)
    container["Labels"] = marks  # the list of tasks shows these, and not the service's own
    return {
        "Name": service_name(hub, spec.ref),
        "Labels": marks,
        "TaskTemplate": task,
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": _endpoint(settings),
    }


def _endpoint(settings: SwarmSettings) -> dict[str, Any]:
    # In the routing mesh every machine would answer at the port, by way of virtual addresses that need IPVS.
    if settings.transport == "network":
        return {"Mode": "dnsrr"}
    ports = [{"Protocol": "tcp", "TargetPort": settings.port, "PublishMode": "host"}]
    return {"Mode": "dnsrr", "Ports": ports}


def _resources(
    memory: int | None, cpus: float | None, pids: int | None, settings: SwarmSettings
) -> dict[str, Any]:
    bounds: dict[str, int] = {}
    if memory is not None:
        bounds["MemoryBytes"] = memory
    if cpus is not None:
        bounds["NanoCPUs"] = round(cpus * _NANO)
    if pids is not None:
        bounds["Pids"] = pids
    kept: dict[str, int] = {}
    if settings.reserved_memory:
        kept["MemoryBytes"] = limits.memory_bytes(settings.reserved_memory)
    if settings.reserved_cpus:
        kept["NanoCPUs"] = round(limits.cpu_count(settings.reserved_cpus) * _NANO)
    kept = {name: min(value, bounds.get(name, value)) for name, value in kept.items()}
    return {"Limits": bounds, "Reservations": kept}


def _placed(spec: ServerSpec, settings: SwarmSettings) -> list[tuple[str, str, bool]]:
    """Source, target, and whether it is read-only."""
    words = {"user": home_name(spec.files_of), "server": spec.ref.name, "home": settings.home}
    found = []
    for name, place in settings.volumes.items():
        target, _, mode = place.format(**words).partition(":")
        found.append((name.format(**words), target, mode == "ro"))
    return found


def _mounts(spec: ServerSpec, settings: SwarmSettings, marks: dict[str, str]) -> list[dict[str, Any]]:
    tmp = {"SizeBytes": limits.memory_bytes(settings.tmp_size), "Mode": 0o1777}
    mounts: list[dict[str, Any]] = [{"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": tmp}]
    for source, target, read_only in _placed(spec, settings):
        mount = {"Source": literal(source), "Target": literal(target), "ReadOnly": read_only}
        if source.startswith("/"):
            mounts.append({"Type": "bind", **mount})
            continue
        words = {"user": home_name(spec.files_of), "server": spec.ref.name, "home": settings.home}
        options = {name: literal(text.format(**words)) for name, text in settings.volume_options.items()}
        driver = {"Name": settings.volume_driver or "local", "Options": options}
        labels = {HUB: marks[HUB], USER: literal(spec.username)}
        mounts.append(
            {"Type": "volume", **mount, "VolumeOptions": {"DriverConfig": driver, "Labels": labels}}
        )
    return mounts
