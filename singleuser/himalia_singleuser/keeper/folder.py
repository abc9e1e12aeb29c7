"""Where a server and its kernels meet again: the folder of their sockets, a pointer to it, and a lock on it. Blocking.

The pointer lies in the runtime folder, named by what makes a server the same one: its root and its base URL. The lock
says whether a server lives: the system lets go of it with the server's last breath.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

STATE = "state.json"
VERSION = 1


def key_of(root_dir: Path, base_url: str) -> str:
    """Names one server among those of a person."""
    return hashlib.sha256(f"{root_dir}\0{base_url}".encode(errors="surrogateescape")).hexdigest()[:12]


def boot_id() -> str:
    """Changes when the machine starts anew; empty where that is not told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def born(pid: int) -> int:
    """When the process of this number began, in clock ticks since boot; 0 when there is none that runs."""
    try:
        columns = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return 0
    return 0 if columns[0] in {b"Z", b"X"} else int(columns[19])


class KernelFolder:
    """One folder, held by this server until `remove` or the process's end."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def hold(cls, path: Path, runtime_dir: Path, key: str) -> KernelFolder:
        """A new one. OSError when it cannot be written."""
        lock = _locked(path)
        if lock is None:
            raise BlockingIOError(f"another server uses {path}")
        runtime_dir.mkdir(parents=True, exist_ok=True)
        pointer = runtime_dir / f"kept-{key}-{path.name}"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(path.absolute())
        return cls(path, lock)

    @classmethod
    def left_behind(cls, runtime_dir: Path, key: str) -> Iterator[KernelFolder]:
        """Those of servers of this key that were killed, the last one first. The caller removes or releases each."""
        found = []
        for pointer in runtime_dir.glob(f"kept-{key}-*"):
            path = Path(os.path.realpath(pointer))
            if not _is_own(path):
                pointer.unlink(missing_ok=True)
                continue
            found.append(path)
        for path in sorted(found, key=lambda one: one.stat().st_mtime, reverse=True):
            lock = _locked(path)
            if lock is not None:
                yield cls(path, lock)

    def read(self) -> dict[str, Any] | None:
        """What the last server wrote down; None when there is nothing that can be used on this boot of the machine."""
        try:
            state = json.loads((self.path / STATE).read_bytes())
        except (OSError, ValueError):
            return None
        usable = (
            isinstance(state, dict) and state.get("version") == VERSION and state.get("boot") == boot_id()
        )
        return state if usable else None

    def is_elsewhere(self) -> bool:
        """Whether it belongs to another machine that shares the folder."""
        try:
            state = json.loads((self.path / STATE).read_bytes())
        except (OSError, ValueError):
            return False
        host = state.get("host") if isinstance(state, dict) else None
        return host is not None and host != socket.gethostname()

    def write(self, state: dict[str, Any]) -> None:
        """Replace what was written down; a reader sees the old or the new whole."""
        told = {**state, "version": VERSION, "boot": boot_id(), "host": socket.gethostname()}
        self.replace(STATE, json.dumps(told).encode())

    def replace(self, name: str, content: bytes) -> None:
        """Write one file in whole."""
        draft = self.path / f"{name}.new"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        draft.replace(self.path / name)

    def release(self) -> None:
        """Hold it no longer; it stays as it is."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self, runtime_dir: Path) -> None:
        """Delete it and its pointers."""
        shutil.rmtree(self.path, ignore_errors=True)
        for pointer in runtime_dir.glob(f"kept-*-{self.path.name}"):
            pointer.unlink(missing_ok=True)
        self.release()


def _is_own(path: Path) -> bool:
    """A folder that nobody else can have made or enter."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _locked(path: Path) -> int | None:
    with suppress(OSError):
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        return lock
    return None
