"""Whether the machine's memory, or what the container may use of it, ran out: as the kernel of the system counts it."""

from __future__ import annotations

from pathlib import Path

OWN_GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def oom_kills(own: Path = OWN_GROUP, groups: Path = GROUPS) -> int:
    """How many processes of this server's control group were killed for want of memory; 0 if that is not told.

    `memory.events` of cgroup version 2; kernels of notebooks are in the same group as the server that started them.
    """
    try:
        lines = own.read_text().splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::")), "/")
        events = (groups / path.lstrip("/") / "memory.events").read_text()
        return sum(int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        return 0
