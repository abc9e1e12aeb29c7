"""Limits on memory, CPU and number of processes by control groups, version 1 or 2, where they may be made.

Each server with limits gets one group per hierarchy, named for hub and server, below the hub's own group (or the
configured one). What can't be limited is told in sentences, never passed over. Blocking, microseconds each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from himalia_spawner.base import Cause, Exit, Limits

_PERIOD_US = 100_000
_NEEDED = ("memory", "cpu", "pids")
_LEAF = "hub"
"""A hub in a group of this name (systemd: `DelegateSubgroup=hub`) makes its servers' groups beside its own."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups for one controller are made, and by the rules of which version."""

    base: Path
    version: int


@dataclass(frozen=True, slots=True)
class Made:
    """The groups of one server, and in sentences what of its limits does not hold.

    `counted` is what they had counted before: kernels that wait in them keep them from being made anew.
    """

    folders: tuple[str, ...] = ()
    unenforced: tuple[str, ...] = ()
    counted: tuple[int, int] = (0, 0)

    @property
    def doors(self) -> tuple[str, ...]:
        """The files by which a process enters."""
        return tuple(f"{folder}/cgroup.procs" for folder in self.folders)


def parse_mounts(mountinfo: str) -> list[tuple[str, str, str, frozenset[str]]]:
    """(mount point, root within the hierarchy, type, options) of every cgroup mount, from mountinfo: pure."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        columns, kind = left.split(), right.split()
        if len(columns) > 4 and kind and kind[0] in ("cgroup", "cgroup2"):
            found.append((columns[4], columns[3], kind[0], frozenset(kind[-1].split(","))))
    return found


def parse_own(text: str) -> dict[str, str]:
    """The hub's own group per controller, from /proc/self/cgroup; version 2 under the empty name: pure."""
    own = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            own[name] = path
    return own


def find_hierarchies(
    parent: str = "", *, proc: Path = Path("/proc/self")
) -> tuple[dict[str, Hierarchy], dict[str, str]]:
    """Where each controller's groups go, and for those that have no place, why."""
    mounts = parse_mounts((proc / "mountinfo").read_text())
    own = parse_own((proc / "cgroup").read_text())
    found: dict[str, Hierarchy] = {}
    missing = dict.fromkeys(_NEEDED, "this system has no control groups for it")
    for point, root, kind, options in mounts:
        version = 2 if kind == "cgroup2" else 1
        for name in _NEEDED:
            if name in found or (version == 1 and name not in options):
                continue
            base = _base(Path(point), root, own.get(name if version == 1 else "", "/"), parent)
            if version == 2 and (why := _grant(base, name)):
                missing[name] = why
                continue
            found[name] = Hierarchy(base, version)
            missing.pop(name, None)
    return found, missing


def _base(point: Path, root: str, own: str, parent: str) -> Path:
    if parent:
        return point / parent.strip("/")
    below = os.path.relpath(own, root) if own.startswith(root) else "."
    base = point / below
    return base.parent if base.name == _LEAF else base


def _grant(base: Path, name: str) -> str:
    """Let the children of a version 2 group have the controller; why not, if they can't."""
    try:
        if name not in (base / "cgroup.controllers").read_text().split():
            return "the hub's control group does not have that controller (systemd: Delegate=yes)"
        if name not in (base / "cgroup.subtree_control").read_text().split():
            (base / "cgroup.subtree_control").write_text(f"+{name}")
    except OSError as error:
        return f"control group {str(base)!r} can't be divided: {error.strerror}"
    return ""


class Cgroups:
    """The control groups of one hub's servers."""

    def __init__(self, hub: str, parent: str = "", *, proc: Path = Path("/proc/self")) -> None:
        self._hub = hub
        try:
            self._places, self._missing = find_hierarchies(parent, proc=proc)
        except OSError as error:
            self._places, self._missing = {}, dict.fromkeys(_NEEDED, f"/proc can't be read: {error.strerror}")

    def make(self, short: str, limits: Limits) -> Made:
        """Groups with these limits, empty; only for the limits that are set."""
        wanted = {"memory": limits.memory, "cpu": limits.cpus, "pids": limits.pids}
        folders: list[str] = []
        unenforced: list[str] = []
        for name, value in wanted.items():
            if value is None:
                continue
            place = self._places.get(name)
            why = self._missing.get(name, "") if place is None else ""
            folder = place.base / f"himalia-{self._hub}-{short}" if place else Path()
            if place is not None:
                try:
                    _fresh(folder)
                    _write_limit(folder, place.version, name, value)
                    folders.append(str(folder))
                except OSError as error:
                    why = f"{str(folder)!r} can't be set up: {error.strerror}"
            if why:
                unenforced.append(f"the limit of {_words(name, value)} is not enforced: {why}")
        if limits.disk is not None:
            why = "the process spawner sets no project quotas; set them on the file system of the homes"
            unenforced.append(f"the limit of {_size(limits.disk)} of disk is not enforced: {why}")
        made = tuple(dict.fromkeys(folders))
        return Made(made, tuple(unenforced), counted(made))


def _fresh(folder: Path) -> None:
    # Its counters tell of this life only; one that still holds processes can't be removed and is used on.
    with suppress(OSError):
        folder.rmdir()
    folder.mkdir(mode=0o755, exist_ok=True)


def _write_limit(folder: Path, version: int, name: str, value: float) -> None:
    files: dict[str, str] = {}
    optional: dict[str, str] = {}
    match name, version:
        case "memory", 1:
            files["memory.limit_in_bytes"] = str(int(value))
            optional["memory.memsw.limit_in_bytes"] = str(int(value))
        case "memory", _:
            files["memory.max"] = str(int(value))
            optional["memory.swap.max"] = "0"
        case "cpu", 1:
            files["cpu.cfs_period_us"] = str(_PERIOD_US)
            files["cpu.cfs_quota_us"] = str(max(1000, int(value * _PERIOD_US)))
        case "cpu", _:
            files["cpu.max"] = f"{max(1000, int(value * _PERIOD_US))} {_PERIOD_US}"
        case _:
            files["pids.max"] = str(int(value))
    for file, text in files.items():
        (folder / file).write_text(text)
    for file, text in optional.items():  # a machine without swap has no such file
        with suppress(OSError):
            (folder / file).write_text(text)


def members(folders: Iterable[str]) -> set[int]:
    """Numbers of all processes in these groups."""
    found: set[int] = set()
    for folder in folders:
        with suppress(OSError):
            found.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split())
    return found


def remove(folders: Iterable[str]) -> tuple[str, ...]:
    """Remove the groups; gives those that still hold processes."""
    for folder in folders:
        with suppress(OSError):
            Path(folder).rmdir()
    return tuple(folder for folder in folders if os.path.exists(folder))


def counted(folders: Iterable[str]) -> tuple[int, int]:
    """How often these groups' processes were killed for want of memory, and how often one more was refused."""
    ooms = pids = 0
    for each in folders:
        ooms += _count(each, "memory.oom_control", "oom_kill") + _count(each, "memory.events", "oom_kill")
        pids += _count(each, "pids.events", "max")
    return ooms, pids


def memory_of(folders: Iterable[str]) -> int | None:
    """Bytes that these groups hold, without cached files that nobody reads; None where none of them counts memory."""
    for each in folders:
        for file, cached in (
            ("memory.current", "inactive_file"),
            ("memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(OSError, ValueError):
                return max(0, int(Path(each, file).read_text()) - _count(each, "memory.stat", cached))
    return None


def explain(how: Exit, folders: Iterable[str], limits: Limits, before: tuple[int, int] = (0, 0)) -> Exit:
    """The same end, told with what its control groups know: out of memory, or out of processes.

    `before` is what they had `counted` when it began.
    """
    ooms, pids = counted(folders)
    if how.signal is not None and limits.memory and ooms > before[0]:
        words = f"it used up its {_size(limits.memory)} of memory; use less at once, or ask for more"
        return replace(how, reason=words, cause=Cause.MEMORY)
    if how.status != 0 and limits.pids and pids > before[1]:
        return replace(how, reason=f"{how.reason}; it had reached its limit of {limits.pids} processes")
    return how


def _count(folder: str, file: str, key: str) -> int:
    try:
        lines = Path(folder, file).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [key]), 0)


def _words(name: str, value: float) -> str:
    match name:
        case "memory":
            return f"{_size(int(value))} of memory"
        case "cpu":
            return f"{value:g} CPUs"
        case _:
            return f"{value:g} processes"


def _size(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:g} {unit}" if size == int(size) else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
