"""Removing repositories and environments that nobody has used for long, the longest unused first."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from himalia_hub.ephemeral.folders import Folders

FULL, ENOUGH = 0.80, 0.60
"""Above the first share of the disk in use, things go until the second is reached."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder that can be made again. `used_at` in seconds since the epoch."""

    path: Path
    used_at: float
    bytes: int


def touch(path: Path) -> None:
    """It was used just now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def unwanted(
    kept: Iterable[Kept], *, in_use: Collection[Path], older_than: float, to_free: int
) -> list[Path]:
    """What to remove: all that was last used before `older_than`, and the longest unused until `to_free` bytes go.

    Nothing of `in_use`, however full the disk is. Pure.
    """
    free = sorted((one for one in kept if one.path not in in_use), key=lambda one: one.used_at)
    chosen, freed = [], 0
    for one in free:
        if one.used_at < older_than or freed < to_free:
            chosen.append(one.path)
            freed += one.bytes
    return chosen


def collect(folders: Folders, in_use: Collection[Path], *, keep_s: float) -> list[Path]:
    """Remove what is not wanted any more; what went. Blocking: sizes are walked only when the disk is full."""
    disk = shutil.disk_usage(folders.root)
    full = disk.used > FULL * disk.total
    to_free = int(disk.used - ENOUGH * disk.total) if full else 0
    places = (folders.mirrors, folders.checkouts, folders.environments)
    kept = [_kept(entry, measured=full) for place in places for entry in os.scandir(place) if entry.is_dir()]
    gone = unwanted(kept, in_use=in_use, older_than=time.time() - keep_s, to_free=to_free)
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return gone


def _kept(entry: os.DirEntry[str], *, measured: bool) -> Kept:
    path = Path(entry.path)
    size = sum(one.lstat().st_blocks * 512 for one in path.rglob("*")) if measured else 0
    return Kept(path, entry.stat(follow_symlinks=False).st_mtime, size)
