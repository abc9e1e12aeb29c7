"""Whether the machine's memory, or what the container may use of it, ran out: as the kernel of the system counts it."""

from __future__ import annotations

from pathlib import Path

OWN_GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def oom_kills(own: Path = OWN_GROUP, groups: Path = GROUPS) -> int:
    """How many processes of this server's control group were killed for want of memory; 0 if that is not told.

    Kernels of notebooks are in the same group as the server that started them. `memory.events` of cgroup version 2,
    `memory.oom_control` of version 1; where both are mounted, memory belongs to the one that names its controller.
    """
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        return 0
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if "memory" in controllers.split(","):
            return _count(groups / "memory", path, "memory.oom_control")
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return _count(groups, path, "memory.events")


def _count(mounted: Path, path: str, file: str) -> int:
    """A container may see its own group as the whole tree, yet be told where it is in the machine's."""
    for folder in (mounted / path.lstrip("/"), mounted):
        try:
            told = (folder / file).read_text()
            return sum(int(line.split()[1]) for line in told.splitlines() if line.startswith("oom_kill "))
        except (OSError, ValueError, IndexError):
            continue
    return 0
