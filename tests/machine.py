"""The limits of a machine, made small for a moment: processes, open files, disk. All of it needs root."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from himalia_spawner import cgroups, procfs

_numbers = itertools.count(1)


class PidsGroup:
    """A control group whose members may be forbidden to make processes and threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def close(self) -> None:
        """No more processes or threads, whatever ends meanwhile."""
        # Not "as many as now": a library that ends its threads before a fork would make room for it.
        (self._folder / "pids.max").write_text("0")

    def open(self) -> None:
        """As many as they like."""
        (self._folder / "pids.max").write_text("max")


@contextmanager
def pids_group(members: Iterable[int]) -> Iterator[PidsGroup]:
    """Put these processes into a group of their own; what is left of them goes back at the end."""
    places, missing = cgroups.find_hierarchies()
    assert "pids" in places, f"this test needs a pids control group: {missing.get('pids')}"
    base = places["pids"].base
    folder = base / f"himalia-tests-{os.getpid()}-{next(_numbers)}"
    folder.mkdir()
    try:
        for pid in members:
            (folder / "cgroup.procs").write_text(str(pid))
        yield PidsGroup(folder)
    finally:
        (folder / "pids.max").write_text("max")
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (base / "cgroup.procs").write_text(pid)
        folder.rmdir()


def open_files(pid: int) -> int:
    """How many descriptors a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def few_files(pid: int, more: int) -> Iterator[None]:
    """Let a running process open only so many files more than it keeps open.

    What it opens for a moment (a file of /proc to count memory) is not kept: it is free again when it matters.
    """
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    numbers = set.intersection(*({int(name) for name in os.listdir(f"/proc/{pid}/fd")} for _ in range(200)))
    free = (number for number in itertools.count() if number not in numbers)
    limit = next(itertools.islice(free, more, None))  # the limit is on the number, and low ones may be free
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        if procfs.stat(pid) is not None:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def small_disk(place: Path, size: str, *, inodes: int = 0) -> Iterator[Disk]:
    """A file system of this size (`4m`) at an empty folder."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = f"mode=700,size={size}" + (f",nr_inodes={inodes}" if inodes else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class Disk:
    """What `small_disk` gives: fill it to the last byte, and make room again."""

    def __init__(self, place: Path) -> None:
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """Leave no byte."""
        with open(self._ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"." * size)

    def free(self) -> None:
        """There is room again."""
        self._ballast.unlink(missing_ok=True)
