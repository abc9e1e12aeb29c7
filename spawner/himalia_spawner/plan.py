"""What a newborn process needs to know to become a server, and how it says that it has: over one socket.

The plan is one datagram on a SOCK_SEQPACKET socket, with the descriptors of lock, log and listening socket
attached. The newborn answers on the same socket: one line of JSON per event, the last one before the end counts.
Only the standard library is used here: the nest imports it.
"""

from __future__ import annotations

import array
import json
import socket
from dataclasses import asdict, dataclass
from typing import Any

PLAN_MAX = 1 << 18
_FUNCTION, _COMMAND = b"S", b"C"
"""First byte of a plan, by what it asks for: the nest looks at no more of it, for a plan holds its server's token."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A server to be. `entry` is a function by dotted name, `module:function`; empty means: exec `argv`.

    `record` is the intent as a record's JSON, to be completed with pid and start time. `groups` None leaves the
    identity as it is. `cgroups` are the `cgroup.procs` files to join; `rlimits` maps lower-case names to numbers.
    """

    folder: str
    record: dict[str, Any]
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


def is_plan(first: bytes) -> bool:
    """Whether a datagram that begins with this byte is a plan."""
    return first in (_FUNCTION, _COMMAND)


def is_command(first: bytes) -> bool:
    """Whether it is the plan of a server that is a program to execute, not a function to call."""
    return first == _COMMAND


def send_plan(to: socket.socket, plan: Plan, descriptors: list[int]) -> None:
    """Hand the plan over. OSError EMSGSIZE when it is larger than a datagram can be."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    kind = _FUNCTION if plan.entry else _COMMAND
    to.sendmsg([kind + json.dumps(asdict(plan)).encode()], rights)


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
    """What a newborn says: `ok`, or what could not be done. `refused` means: trying again will not help."""

    ok: bool
    error: str = ""
    refused: bool = False


def send_report(to: socket.socket, report: Report) -> None:
    """Say it; nobody listening any more is no reason to stop."""
    try:
        to.send(json.dumps(asdict(report)).encode())
    except OSError:
        pass


def receive_report(source: socket.socket) -> Report | None:
    """The newborn's last word, after it has closed the socket; None if it said nothing. TimeoutError as set."""
    last: Report | None = None
    reset = False
    while True:
        try:
            data = source.recv(1 << 16)
        except ConnectionError:
            if reset:
                return last
            reset = True  # what it said before it closed comes after the news that it closed
            continue
        if not data:
            return last
        last = Report(**json.loads(data))
