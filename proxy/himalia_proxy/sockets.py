"""Connecting to a unix socket that the target's own user could swap for something else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pinned(path: str) -> Iterator[str]:
    """A path to connect to that stays the socket found at `path` while the block runs; OSError if it is none.

    `connect()` follows symbolic links, so a container could put one in place of its socket, to any socket of this
    machine. The last part of the path is opened without following it (open(2), O_PATH and O_NOFOLLOW), and the
    descriptor is connected to. The folders above it are not the container's to change.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(f"{path!r} is no socket")
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
