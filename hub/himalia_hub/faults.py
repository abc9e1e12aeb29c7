"""Named moments at which a test can make this process die, fail, wait or hang.

`HIMALIA_FAULT=name:action[:n]` arms one point: at its n-th passing (default 1) the process exits at once with 137
(`exit137`, like SIGKILL), raises (`raise`), waits a second (`delay`) or for ever (`hang`), or stops as a whole until
it gets SIGCONT (`stop`). Without the variable a point costs one comparison. The points stand before and after every
commit and outside effect of a start and a stop, in the order in which a life passes them; the kill test walks this
list.

`HIMALIA_TRACE=file` writes each passing there instead, as a line of name and monotonic nanoseconds: where the
milliseconds of a start go (`make bench`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

POINTS = (
    "wish.before_commit",
    "wish.after_commit",
    "claim.after_commit",
    "observe.after",
    "start.before_commit",
    "start.after_commit",
    "start.before_create",
    "spawner.before_lock",
    "spawner.after_lock",
    "spawner.after_intent",
    "spawner.before_fork",
    "spawner.after_request",
    "spawner.after_fork",
    "spawner.after_record",
    "start.after_create",
    "start.after_record",
    "publish.before_put",
    "publish.after_put",
    "ready.before_commit",
    "ready.after_commit",
    "unpublish.before_delete",
    "unpublish.after_delete",
    "stop.before_commit",
    "stop.after_commit",
    "stop.before_stop",
    "spawner.before_signal",
    "spawner.after_signal",
    "spawner.after_exit",
    "spawner.after_sweep",
    "stop.after_stop",
    "stopped.before_commit",
    "stopped.after_commit",
)

LAUNCH_POINTS = (
    "launch.resolving",
    "launch.fetching",
    "launch.waiting",
    "launch.building",
    "launch.built",
    "launch.launching",
    "launch.after_uid",
    "launch.after_home",
    "launch.after_begin",
    "launch.warmed",
    "launch.claimed",
    "launch.keeping",
    "launch.half_kept",
    "launch.after_kept",
    "launch.ending",
    "launch.after_stop",
)
"""The same for an opened link, from the click to the end of its session."""

CUT_POINTS = ("cut.after_commit",)
"""The same for what is to be cut, between its row and its being done."""

_armed = os.environ.get("HIMALIA_FAULT", "")
_trace = os.environ.get("HIMALIA_TRACE", "")
_watched = bool(_armed or _trace)
_passed = 0


class FaultRaised(Exception):
    """What an armed `raise` point raises."""


def fault(name: str) -> None:
    """Pass the point `name`; does nothing unless a test armed it."""
    if _watched:
        _note(name)
        if _armed.partition(":")[0] == name:
            _act(name)


async def async_fault(name: str) -> None:
    """The same where waiting may give the loop away."""
    if not _watched:
        return
    _note(name)
    if _armed.partition(":")[0] == name:
        action = _act(name)
        if action == "delay":
            await asyncio.sleep(1)
        elif action == "hang":
            await asyncio.Event().wait()


def _note(name: str) -> None:
    if _trace:
        line = f"{name} {time.monotonic_ns()}\n"
        with open(_trace, "a", encoding="ascii") as file:
            file.write(line)


def _act(name: str) -> str:
    global _passed  # one process, one armed point
    _passed += 1
    _, action, *nth = _armed.split(":")
    if _passed != int(nth[0] if nth else 1):
        return ""
    if action == "exit137":
        os._exit(137)
    if action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if action == "raise":
        raise FaultRaised(name)
    return action
