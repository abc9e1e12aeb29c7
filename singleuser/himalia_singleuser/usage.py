"""What this server and all that it started use, as the system tells of their processes.

Memory is the proportional share (PSS): what processes have in common is counted once, and a fork of the warm parent
does not look as if it had everything twice. Nothing is kept running: whoever asks pays for one look.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """`memory` in bytes; `cpus` is how many processors were busy since the look before, None at the first."""

    memory: int
    cpus: float | None


class Meter:
    """Looks at processes, and remembers their processor time until the next look. Blocking, a millisecond for each."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before: dict[tuple[int, int], int] = {}
        self._at_s: float | None = None

    def look(self, roots: Iterable[int]) -> Usage:
        """These processes and all below them. A process that ends between two looks leaves no trace."""
        pids = descendants(roots, self._proc)
        now, before, at_s = {}, self._before, self._at_s
        for pid in pids:
            if (seen := _ticks(pid, self._proc)) is not None:
                started, used = seen
                now[pid, started] = used
        self._before, self._at_s = now, time.monotonic()
        memory = sum(_memory(pid, self._proc) for pid in pids)
        if at_s is None:
            return Usage(memory, None)
        ticks = sum(used - before.get(key, 0) for key, used in now.items())
        return Usage(memory, max(0.0, ticks / _TICKS_PER_S / max(self._at_s - at_s, 0.001)))


def descendants(roots: Iterable[int], proc: Path = PROC) -> set[int]:
    """The processes and all that they started and that is still theirs."""
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            found.add(pid)
            ahead += _children(pid, proc)
    return found


def _children(pid: int, proc: Path) -> list[int]:
    """Each thread has those that it started; a thread or process that just ended has none."""
    found: list[int] = []
    try:
        threads = os.listdir(proc / str(pid) / "task")
    except OSError:
        return found
    for thread in threads:
        try:
            found += [
                int(word) for word in (proc / str(pid) / "task" / thread / "children").read_text().split()
            ]
        except (OSError, ValueError):
            continue
    return found


def _ticks(pid: int, proc: Path) -> tuple[int, int] | None:
    """When it started, which tells it from another of the same number, and the processor time it used; in ticks."""
    try:
        columns = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return int(columns[19]), int(columns[11]) + int(columns[12])
    except (OSError, ValueError, IndexError):
        return None


def _memory(pid: int, proc: Path) -> int:
    """Its share in bytes; all that it has in memory where the share is not told; 0 for one that is gone."""
    try:
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return int((proc / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
