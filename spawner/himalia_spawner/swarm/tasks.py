"""What the swarm's own lists say of a server: which task counts, whether it lives, where it is reached. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from himalia_spawner.base import Cause, Exit, Handle, ServerRef
from himalia_spawner.containers.asked import CANNOT_RUN, INCARNATION, NAME, TRANSPORT
from himalia_spawner.swarm.settings import SwarmSettings

Found = Mapping[str, Any]
"""A service, task or node as the Engine API shows it (ServiceInspect, TaskInspect, NodeInspect)."""

ENDED = frozenset({"complete", "failed", "shutdown", "rejected", "remove", "orphaned"})
"""States after which a task's container does not run (Engine API, TaskState)."""
ENDED_BY_SWARM = frozenset({"shutdown", "remove", "orphaned"})


class Life(StrEnum):
    """What is known of a task.

    COMING is on its way to a running container, or waits for a machine. LEAVING runs, and Swarm wants it gone. CUT is
    on a machine that the manager cannot reach: its container may run on. LOST is CUT for so long that it counts as
    gone.
    """

    COMING = "coming"
    LIVE = "live"
    LEAVING = "leaving"
    CUT = "cut"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the swarm. `down_for_s` is None while the manager hears of it."""

    id: str
    name: str
    address: str
    down_for_s: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task of ours: one try of Swarm to run a server's container."""

    found: Found
    node: Node | None

    @property
    def id(self) -> str:
        return str(self.found["ID"])

    @property
    def service(self) -> str:
        return str(self.found.get("ServiceID", ""))

    @property
    def ref(self) -> ServerRef:
        return _ref(self.found["Spec"]["ContainerSpec"]["Labels"])

    @property
    def state(self) -> str:
        return str(self.found["Status"]["State"])

    @property
    def words(self) -> str:
        """What Swarm or the machine says is wrong; empty when nothing is."""
        return " ".join(str(self.found["Status"].get("Err") or "").split())[:400]

    @property
    def is_wanted(self) -> bool:
        return str(self.found.get("DesiredState")) in ("running", "ready", "accepted")

    @property
    def is_away(self) -> bool:
        """Whether the manager does not hear of its machine."""
        return self.node is not None and self.node.down_for_s is not None

    @property
    def where(self) -> str:
        """For sentences: its machine."""
        return f"machine {self.node.name!r}" if self.node else "machine"

    def life(self, lost_s: float) -> Life:
        """`lost_s`: how long a machine must be down for its tasks to count as lost."""
        if self.state in ENDED:
            return Life.ENDED
        if self.node is not None and self.node.down_for_s is not None:
            return Life.LOST if self.node.down_for_s >= lost_s else Life.CUT
        if not self.is_wanted:
            return Life.LEAVING
        return Life.LIVE if self.state == "running" else Life.COMING


@dataclass(frozen=True, slots=True)
class Service:
    """A service of ours: one incarnation of a server, with every task Swarm made for it."""

    found: Found
    tasks: tuple[Task, ...] = ()

    @property
    def id(self) -> str:
        return str(self.found["ID"])

    @property
    def ref(self) -> ServerRef:
        return _ref(self.found["Spec"]["Labels"])

    @property
    def task(self) -> Task | None:
        """The one to follow: that which Swarm wants to run, else the newest. People may have moved it by hand."""
        wanted = [task for task in self.tasks if task.is_wanted]
        return max(wanted or self.tasks, key=lambda task: str(task.found["CreatedAt"]), default=None)

    def life(self, lost_s: float) -> Life:
        """That of its task; COMING before it has one, ENDED when somebody scaled it down to none."""
        if self.task is None:
            replicas = (self.found["Spec"].get("Mode") or {}).get("Replicated", {}).get("Replicas", 1)
            return Life.COMING if replicas else Life.ENDED
        return self.task.life(lost_s)


@dataclass(frozen=True, slots=True)
class View:
    """Services of this hub with their tasks, and tasks whose service has been removed."""

    services: tuple[Service, ...]
    ghosts: tuple[Task, ...] = field(default=())

    def current(self, lost_s: float) -> Service | None:
        """The service that counts for one name: the oldest with a life, else the youngest."""
        alive = [one for one in self.services if one.life(lost_s) not in (Life.ENDED, Life.LOST)]
        return alive[0] if alive else self.services[-1] if self.services else None

    def of(self, ref: ServerRef) -> Service | None:
        """The service of one incarnation."""
        return next((one for one in self.services if one.ref == ref), None)


def view(services: Iterable[Found], tasks: Iterable[Found], nodes: Mapping[str, Node]) -> View:
    """Put the three lists together."""
    all_tasks = [Task(one, nodes.get(str(one.get("NodeID") or ""))) for one in tasks]
    ordered = sorted(services, key=lambda one: (str(one["CreatedAt"]), str(one["ID"])))
    whole = tuple(
        Service(one, tuple(each for each in all_tasks if each.service == str(one["ID"]))) for one in ordered
    )
    known = {one.id for one in whole}
    return View(whole, tuple(one for one in all_tasks if one.service not in known))


def handle_of(service: Service, settings: SwarmSettings) -> Handle | None:
    """Where its running task is reached; None while that is not known."""
    task = service.task
    if task is None or task.node is None or task.state != "running":
        return None
    labels = service.found["Spec"]["Labels"]
    if labels.get(TRANSPORT) == "network":
        url = f"http://{service.found['Spec']['Name']}:{settings.port}"
    else:
        ports = (task.found["Status"].get("PortStatus") or {}).get("Ports") or []
        published = next((one["PublishedPort"] for one in ports if one.get("PublishedPort")), None)
        if published is None or not task.node.address:
            return None
        url = f"http://{task.node.address}:{published}"
    state = {"service": service.id[:12], "task": task.id[:12], "node": task.node.name}
    return Handle(service.ref, url, state)


def address_of(node: Found, label: str) -> str:
    """Where the proxy reaches a node's ports: as its label says, else as the swarm knows it. IPv6 in brackets."""
    labels = (node.get("Spec") or {}).get("Labels") or {}
    if labels.get(label):
        return str(labels[label])
    known = str((node.get("Status") or {}).get("Addr") or "")
    # A manager may know itself by an address that only itself can use.
    if _is_only_its_own(known):
        known = str((node.get("ManagerStatus") or {}).get("Addr") or "").rpartition(":")[0].strip("[]")
    return f"[{known}]" if ":" in known else known


def _is_only_its_own(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return not address
    return parsed.is_unspecified or parsed.is_loopback


def lost(task: Task) -> Exit:
    """The end of a server whose machine is down for too long."""
    why = f"its {task.where} has not answered for a while and counts as lost"
    return Exit(f"{why}; what was saved is kept, and it can be started on another one", cause=Cause.NODE_LOST)


def exit_of(task: Task) -> Exit:
    """How a task ended."""
    status = int((task.found["Status"].get("ContainerStatus") or {}).get("ExitCode") or 0)
    if task.state in ENDED_BY_SWARM:
        why = f"the swarm ended it: its {task.where} was away for a while, or was drained"
        return Exit(why, status, cause=Cause.NODE_LOST)
    if task.state == "complete":
        return Exit("it ended with status 0", 0)
    if task.state == "rejected" or task.found["Status"].get("Message") != "started":
        return Exit(f"its {task.where} could not run it: {task.words}", status or None, cause=Cause.REFUSED)
    if status in CANNOT_RUN:
        return Exit("its command cannot be run in this image", status, cause=Cause.REFUSED)
    if status == 128 + 9 and (limit := _memory_limit(task)):
        words = f"it was killed, most likely because its memory limit of {limit / 2**20:.0f} MB was reached"
        return Exit(words, status, signal=9)
    if status > 128:
        return Exit(f"it was ended by signal {status - 128}", status, signal=status - 128)
    return Exit(f"it ended with status {status}", status)


REMOVED = Exit("its service was removed by somebody else", cause=Cause.REMOVED)


def _memory_limit(task: Task) -> int:
    return int(((task.found["Spec"].get("Resources") or {}).get("Limits") or {}).get("MemoryBytes") or 0)


def _ref(labels: Mapping[str, str]) -> ServerRef:
    return ServerRef(labels[NAME], labels[INCARNATION])
