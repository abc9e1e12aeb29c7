"""One managed service as a process: run it, say how it ended, end it with all it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from himalia_hub.services.child import tied

log = structlog.get_logger()

GRACE_S = 5.0
PAUSE_S = (1.0, 60.0)
STEADY_S = 60.0
"""After this long a service counts as healthy again, and the next pause is short."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. Standard output and error go to `log_file`."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    user: str
    log_file: Path


def next_pause(last_s: float, lived_s: float) -> float:
    """How long to wait before it is started again: twice the last time, unless it had lived for a while. Pure."""
    shortest, longest = PAUSE_S
    return shortest if lived_s >= STEADY_S else min(max(last_s * 2, shortest), longest)


async def start(program: Program) -> asyncio.subprocess.Process:
    """Start it in a session of its own. OSError when it cannot be."""
    program.log_file.parent.mkdir(parents=True, exist_ok=True)
    with program.log_file.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *tied(*program.command, user=program.user),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=dict(program.env),
            cwd=program.cwd,
            start_new_session=True,
        )
    log.info("service.started", name=program.name, pid=process.pid)
    return process


async def ended(program: Program, process: asyncio.subprocess.Process) -> None:
    """Until it ends by itself; then say how, and end what it left behind."""
    began = time.monotonic()
    code = await process.wait()
    _signal_all(process.pid, signal.SIGKILL)
    lived_s = round(time.monotonic() - began, 1)
    log.error("service.ended", name=program.name, code=code, lived_s=lived_s, log=str(program.log_file))


async def end(program: Program, process: asyncio.subprocess.Process) -> None:
    """SIGTERM to it and all it started; SIGKILL to what is left after a moment."""
    if process.returncode is None:
        _signal_all(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.wait()
        _signal_all(process.pid, signal.SIGKILL)
        await process.wait()
        log.info("service.stopped", name=program.name)


def _signal_all(pid: int, signum: signal.Signals) -> None:
    # The session leader's pid names the group for as long as anybody is in it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)
