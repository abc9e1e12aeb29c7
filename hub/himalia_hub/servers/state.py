"""The heart of the lifecycle: one pure, total decision. No clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Desired(StrEnum):
    """The wish of people."""

    RUNNING = "running"
    STOPPED = "stopped"


class Phase(StrEnum):
    """What was last recorded, for pages and the wire; never the base of a decision about the outside."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


class Seen(StrEnum):
    """What is out there now.

    SILENT exists but does not answer its probe (or its port is not its own yet). STALE is a server of another
    life than the one that is wished to run: it must be gone before anything else.
    """

    ABSENT = "absent"
    SILENT = "silent"
    ANSWERING = "answering"
    STALE = "stale"
    UNKNOWN = "unknown"


class Step(StrEnum):
    """What to do next for one server."""

    REST = "rest"
    WAIT = "wait"
    START = "start"
    PUBLISH = "publish"
    UNPUBLISH = "unpublish"
    STOP = "stop"
    STOP_STALE = "stop_stale"
    TIME_OUT = "time_out"
    RECORD_EXIT = "record_exit"


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a decision looks at.

    `fresh` is true until the present wish to run has led to a process: only then may a server be started, so
    that one that died is never brought back silently. `overdue` is true when a start took too long.
    `was_ready` is true once this incarnation has answered. `unwanted` is true while kernels of a crashed server wait
    for a next start that somebody has wished away.
    """

    desired: Desired
    seen: Seen
    routed: bool
    fresh: bool
    overdue: bool = False
    was_ready: bool = False
    unwanted: bool = False


def next_step(now: Situation) -> Step:
    """What to do now for one server. Total over its inputs; `test_state` walks them all."""
    match now.desired, now.seen:
        case _, Seen.UNKNOWN:
            return Step.WAIT
        case _, Seen.STALE:
            return Step.UNPUBLISH if now.routed else Step.STOP_STALE
        case _, Seen.ABSENT if now.routed:
            return Step.UNPUBLISH
        case Desired.RUNNING, Seen.ABSENT:
            return Step.START if now.fresh else Step.RECORD_EXIT
        case Desired.RUNNING, Seen.SILENT if now.was_ready:
            return Step.REST if now.routed else Step.PUBLISH
        case Desired.RUNNING, Seen.SILENT:
            return Step.TIME_OUT if now.overdue else Step.WAIT
        case Desired.RUNNING, Seen.ANSWERING:
            return Step.REST if now.routed else Step.PUBLISH
        case Desired.STOPPED, Seen.ABSENT:
            return Step.STOP if now.unwanted else Step.REST
        case _:
            return Step.UNPUBLISH if now.routed else Step.STOP
