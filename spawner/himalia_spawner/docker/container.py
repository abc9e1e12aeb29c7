"""From a spec to what the engine is asked for, and from what it shows to a sighting. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from himalia_spawner.base import Cause, Exit, Handle, Limits, ServerRef, ServerSpec
from himalia_spawner.containers import asked
from himalia_spawner.containers.asked import HUB, INCARNATION, NAME, SPEC, TRANSPORT, USER, Image
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.names import home_name, short_name

SERVER_DIR, HUB_DIR = "/run/himalia/server", "/run/himalia/hub"
SOCKET, HUB_SOCKET = "sock", "hub.sock"
CPU_PERIOD_US = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where this hub keeps its sockets: `runtime` holds a folder per server, `hub_dir` the hub's own."""

    hub: str
    runtime: Path
    hub_dir: Path

    def container(self, name: str) -> str:
        """The container's name: it carries the hub, for several hubs may share an engine."""
        return f"himalia-{self.hub[:8]}-{name}"

    def folder(self, name: str) -> Path:
        """The folder that is mounted into this server's container."""
        return self.runtime / short_name(name)


def transport_of(settings: DockerSettings, spec: ServerSpec, image: Image) -> str:
    """A unix socket for our own server only: others listen on a port."""
    ours = bool(image.command) and not spec.command
    return settings.transport if ours or settings.transport != "unix" else "port"


def environment(
    spec: ServerSpec, settings: DockerSettings, transport: str, *, hub_url: str
) -> dict[str, str]:
    """The whole environment but for what the image itself sets; the hub's own never enters it."""
    base = socket_url(f"{SERVER_DIR}/{SOCKET}") if transport == "unix" else f"http://0.0.0.0:{settings.port}"
    more = {"HIMALIA_SOCKET_MODE": "666"}
    return asked.environment(spec, settings, base=base, hub_url=hub_url, more=more)


def socket_url(path: str) -> str:
    """`http+unix://` with the path as its host."""
    return f"http+unix://{quote(path, safe='')}"


def mounts(spec: ServerSpec, settings: DockerSettings, place: Place, transport: str) -> list[str]:
    """Bind specifications, `source:target[:mode]`: volumes by name, folders by path."""
    words = {"user": home_name(spec.files_of), "server": spec.ref.name, "home": settings.home}
    if spec.guest is not None:
        binds = [f"{spec.guest.home}:{settings.home}"]
    else:
        binds = [
            f"{name.format(**words)}:{target.format(**words)}" for name, target in settings.volumes.items()
        ]
    if transport == "unix":
        binds += [f"{place.folder(spec.ref.name)}:{SERVER_DIR}", f"{place.hub_dir}:{HUB_DIR}:ro"]
    return binds


def user_of(spec: ServerSpec, settings: DockerSettings) -> str:
    """`uid:gid` of the server: a guest's own, for its home is that account's alone; else the configured one."""
    if spec.guest is None:
        return settings.user
    if spec.guest.uid is not None:
        return f"{spec.guest.uid}:{spec.guest.uid}"
    return f"{os.geteuid()}:{os.getegid()}"  # whose the folder is: the hub's, which is not root here


def volume_names(spec: ServerSpec, settings: DockerSettings) -> dict[str, bool]:
    """The named volumes of a server, and whether each is this server's own (else its person's). A guest has none."""
    if spec.guest is not None:
        return {}
    words = {"user": home_name(spec.files_of), "server": spec.ref.name, "home": settings.home}
    return {name.format(**words): "{server}" in name for name in settings.volumes if not name.startswith("/")}


def host_config(spec: ServerSpec, settings: DockerSettings, place: Place, transport: str) -> dict[str, Any]:
    """Keyword arguments of the SDK's `create_host_config`: limits, and everything that keeps it in its box."""
    limits = spec.limits
    config: dict[str, Any] = {
        "binds": mounts(spec, settings, place, transport),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "network_mode": settings.network,
        "read_only": settings.read_only,
        "tmpfs": {"/tmp": f"rw,nosuid,nodev,mode=1777,size={settings.tmp_size}"},
        "init": True,  # reaps what kernels leave behind
        "restart_policy": {"Name": "no"},
        "pids_limit": limits.pids,
        **_resources(limits),
    }
    if transport == "port":
        config["port_bindings"] = {settings.port: ("127.0.0.1", None)}
    return config


def _resources(limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if limits.memory is not None:
        # Swap would let a server over its limit slow the whole machine down instead of ending.
        found |= {"mem_limit": limits.memory, "memswap_limit": limits.memory}
    if limits.cpus is not None:
        found |= {"cpu_period": CPU_PERIOD_US, "cpu_quota": round(limits.cpus * CPU_PERIOD_US)}
    return found


def places(program: str, path: str) -> list[str]:
    """Where a program may lie in a container; empty for a path that depends on the working folder."""
    if program.startswith("/"):
        return [program]
    return [] if "/" in program else [f"{folder}/{program}" for folder in path.split(":") if folder]


def labels(spec: ServerSpec, place: Place, transport: str, print_: str) -> dict[str, str]:
    """What a container is found and judged by."""
    return {
        HUB: place.hub, NAME: spec.ref.name, INCARNATION: spec.ref.incarnation, SPEC: print_,
        TRANSPORT: transport, USER: spec.username,
    }  # fmt: skip


def handle_of(found: Mapping[str, Any], settings: DockerSettings, place: Place) -> Handle | None:
    """The handle of an inspected container of ours; None while its address is not known."""
    marks = found["Config"]["Labels"]
    ref = ServerRef(marks[NAME], marks[INCARNATION])
    state = {"container": found["Id"][:12], "image": found["Config"]["Image"]}
    url = _url(found, marks[TRANSPORT], settings, place.folder(ref.name) / SOCKET)
    return Handle(ref, url, state) if url else None


def _url(found: Mapping[str, Any], transport: str, settings: DockerSettings, socket: Path) -> str:
    if transport == "unix":
        return socket_url(str(socket))
    networks = found["NetworkSettings"]
    if transport == "port":
        published = (networks.get("Ports") or {}).get(f"{settings.port}/tcp") or []
        return f"http://127.0.0.1:{published[0]['HostPort']}" if published else ""
    address = next((one["IPAddress"] for one in (networks.get("Networks") or {}).values()), "")
    return f"http://{address}:{settings.port}" if address else ""


def exit_of(found: Mapping[str, Any]) -> Exit | None:
    """How a container ended; None when it was made and never ran."""
    state = found["State"]
    if state["Status"] == "created":
        return None
    status = int(state.get("ExitCode") or 0)
    if state.get("OOMKilled"):
        limit = (found.get("HostConfig") or {}).get("Memory") or 0
        words = f" of {limit / 2**20:.0f} MB" if limit else ""
        return Exit(f"it ran out of memory; its limit{words} was reached", status, cause=Cause.MEMORY)
    if state.get("Error"):
        return Exit(f"the engine could not run it: {state['Error'][:300]}", status, cause=Cause.REFUSED)
    if status > 128:
        return Exit(f"it was ended by signal {status - 128}", status, signal=status - 128)
    return Exit(f"it ended with status {status}", status)


REMOVED = Exit("its container was removed by somebody else", cause=Cause.REMOVED)
