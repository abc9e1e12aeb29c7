"""What a newborn process needs to know to become a server, and how it says that it has: over one socket.

The plan is one datagram on a SOCK_SEQPACKET socket, with the descriptors of lock, log and listening socket
attached. The newborn, or who made it, answers on the same socket: JSON, the last word before the end counts.
Only the standard library is used here: the nest imports it.
"""

from __future__ import annotations

import array
import json
import socket
from dataclasses import dataclass, fields

PLAN_MAX = 1 << 18
_REPORT_MAX = 1 << 14
_FUNCTION, _COMMAND, _SPAWN = b"S", b"C", b"E"
"""First byte of a plan, by what it asks for: a nest that may call functions looks at no more of it, for a plan holds
its server's token."""
_INHERITED = {"core", "nofile"}
"""Limits that a parent may take for a moment itself, so that a program inherits them, and come to no harm."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A server to be. `entry` is a function by dotted name, `module:function`; empty means: exec `argv`.

    `record` is the intent as written down, to be completed with pid and start time. `groups` None leaves the
    identity as it is. `cgroups` are the `cgroup.procs` files to join; `rlimits` maps lower-case names to numbers.
    """

    folder: str
    record: str
    argv: tuple[str, ...]
    entry: str
    env: dict[str, str]
    uid: int
    gid: int
    groups: tuple[int, ...] | None
    home: str
    umask: int
    rlimits: dict[str, int]
    cgroups: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether it asks for a program and for nothing that only the newborn itself could do before it."""
        return not (self.entry or self.cgroups or self.rlimits.keys() - _INHERITED) and self.groups is None

    @property
    def kind(self) -> bytes:
        """Its first byte on the wire."""
        return _FUNCTION if self.entry else _SPAWN if self.plain else _COMMAND


_MEMBERS = tuple(each.name for each in fields(Plan))


def is_plan(first: bytes) -> bool:
    """Whether a datagram that begins with this byte is a plan."""
    return first in (_FUNCTION, _COMMAND, _SPAWN)


def is_function(first: bytes) -> bool:
    """Whether it is the plan of a server that is a function to call, not a program to execute."""
    return first == _FUNCTION


def is_plain(first: bytes) -> bool:
    """Whether it is one that is `Plan.plain`."""
    return first == _SPAWN


def send_plan(to: socket.socket, plan: Plan, descriptors: list[int]) -> None:
    """Hand the plan over. OSError EMSGSIZE when it is larger than a datagram can be."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    told = {name: getattr(plan, name) for name in _MEMBERS}
    to.sendmsg([plan.kind + json.dumps(told).encode()], rights)


def receive_plan(source: socket.socket) -> tuple[Plan, list[int]]:
    """The plan and its descriptors, close-on-exec. EOFError when the sender has gone without one."""
    flags = socket.MSG_CMSG_CLOEXEC
    data, descriptors, _, _ = socket.recv_fds(source, PLAN_MAX, 8, flags)
    if not is_plan(data[:1]):
        raise EOFError("no plan came")
    told = json.loads(data[1:])
    groups = None if told["groups"] is None else tuple(told["groups"])
    parts = {**told, "groups": groups, "argv": tuple(told["argv"]), "cgroups": tuple(told["cgroups"])}
    return Plan(**parts), list(descriptors)


@dataclass(frozen=True, slots=True)
class Report:
    """What a newborn says: `ok`, or what could not be done. `refused` means: trying again will not help.

    `pid` and `ticks` are its number and start time, as it has written them down. After `final` nothing else is said.
    """

    ok: bool
    error: str = ""
    refused: bool = False
    pid: int = 0
    ticks: int = 0
    final: bool = False


_TOLD = tuple(each.name for each in fields(Report))


def send_report(to: socket.socket, report: Report) -> None:
    """Say it; nobody listening any more is no reason to stop."""
    try:
        to.send(json.dumps({name: getattr(report, name) for name in _TOLD}).encode())
    except OSError:
        pass


def receive_report(source: socket.socket) -> Report | None:
    """The newborn's last word, after it has closed the socket or said so; None if it said nothing. TimeoutError or
    BlockingIOError as set.
    """
    last: Report | None = None
    reset = False
    while True:
        try:
            data = source.recv(_REPORT_MAX)
        except ConnectionError:
            if reset:
                return last
            reset = True  # what it said before it closed comes after the news that it closed
            continue
        if not data:
            return last
        last = Report(**json.loads(data))
        if last.final:
            return last
