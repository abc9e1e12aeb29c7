"""Ending processes: wait on their descriptor, escalate, and find out how they ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from himalia_spawner import cgroups, procfs
from himalia_spawner.base import Exit
from himalia_spawner.searching import Found

_SWEEP_TERM_S = 2.0
_VACATE_S = 1.0


async def ended(pidfd: int, within_s: float) -> bool:
    """Whether the process ends within that time; returns as soon as it does."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    # A descriptor of its own: a loop knows one reader per descriptor, and this one may be registered.
    own = os.dup(pidfd)
    loop.add_reader(own, over.set)
    try:
        await asyncio.wait_for(over.wait(), max(within_s, 0.001))
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(own)
        os.close(own)
    return True


async def escalate(
    pidfd: int, *, interrupt_s: float, term_s: float, kill_s: float, signalled: Callable[[], None]
) -> bool:
    """INT, TERM, KILL, each with its time; zero leaves its signal out. False if it survives KILL."""
    steps = ((signal.SIGINT, interrupt_s), (signal.SIGTERM, term_s), (signal.SIGKILL, kill_s))
    for number, wait_s in steps:
        if wait_s <= 0:
            continue
        procfs.send(pidfd, number)
        signalled()
        if await ended(pidfd, wait_s):
            return True
    return False


async def sweep(found: Iterable[Found], *, kill_s: float) -> list[int]:
    """End processes that a server left behind, TERM then KILL; the numbers of those that survive."""
    with ExitStack() as stack:
        held: dict[int, int] = {}
        for each in found:
            pidfd = procfs.open_pidfd(each.pid, each.ticks)
            if pidfd is not None:
                stack.callback(os.close, pidfd)
                held[each.pid] = pidfd
        for number, wait_s in ((signal.SIGTERM, _SWEEP_TERM_S), (signal.SIGKILL, kill_s)):
            for pidfd in held.values():
                procfs.send(pidfd, number)
            gone = await asyncio.gather(*(ended(pidfd, wait_s) for pidfd in held.values()))
            held = {
                pid: pidfd for (pid, pidfd), is_gone in zip(held.items(), gone, strict=True) if not is_gone
            }
        return list(held)


async def vacated(groups: Iterable[str]) -> bool:
    """Whether these control groups are gone. The last process is dead a moment before it has left its group."""
    deadline = asyncio.get_running_loop().time() + _VACATE_S
    while groups := cgroups.remove(groups):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def reap(pidfd: int) -> Exit | None:
    """How it ended, if it is our child and has; frees its entry. None for somebody else's child."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return how_ended(result.si_status, by_signal=result.si_code != os.CLD_EXITED)


def how_ended(status: int, *, by_signal: bool) -> Exit:
    """The end of a process as a sentence for its user: pure."""
    if not by_signal:
        if status == 0:
            return Exit("the server ended by itself", status=0)
        return Exit(f"the server ended with status {status}", status=status)
    try:
        name = signal.Signals(status).name
    except ValueError:
        name = f"signal {status}"
    if status == signal.SIGKILL:
        return Exit(f"the server was ended by {name}; the machine may have run out of memory", signal=status)
    return Exit(f"the server was ended by {name}", signal=status)


UNWATCHED = Exit("the server ended while the hub was not watching; how is not known")
INTERRUPTED = Exit("the hub was interrupted while it started the server")
REBOOTED = Exit("the server ended because the machine was restarted")
