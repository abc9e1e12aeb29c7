"""Outputs that no longer fit into memory, in files beside the kernels' own: still there when the server was killed."""

from __future__ import annotations

import os
import secrets
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Piece = tuple[int, int]
"""Where a text begins in its file, and how many bytes it has."""


class Disk:
    """What all runs together may put on disk. `folder` is asked for when the first one needs it."""

    def __init__(self, folder: Callable[[], Path | None], most_bytes: int) -> None:
        self._folder = folder
        self.most_bytes = most_bytes
        self.used = 0

    def shelf(self) -> Shelf:
        """A new, empty file. OSError when there can be none."""
        folder = self._folder()
        if folder is None:
            raise FileNotFoundError("no kernel has run yet")
        return Shelf(folder / f"spilled.{os.getpid()}.{secrets.token_hex(6)}", self)

    def open(self, path: str) -> Shelf:
        """One that an earlier server filled. OSError when it is gone."""
        return Shelf(Path(path), self, is_new=False)


class Shelf:
    """One file, written at its end only; gone when nobody refers to it any more. Blocking, but the page cache's."""

    def __init__(self, path: Path, disk: Disk, *, is_new: bool = True) -> None:
        how = os.O_CREAT | os.O_EXCL if is_new else 0
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | how, 0o600)
        self.path = str(path)
        self._disk = disk
        self._size = os.fstat(self._fd).st_size
        disk.used += self._size
        self.end = weakref.finalize(self, _end, self._fd, path)
        self.end.atexit = False

    def put(self, text: str) -> Piece:
        """Keep a text. OSError when the disk, or what may be used of it, is full: then nothing was kept."""
        data = text.encode("utf-8", "surrogatepass")
        if self._disk.used + len(data) > self._disk.most_bytes:
            raise OSError(f"outputs hold {self._disk.most_bytes} bytes of the disk already")
        at, left = self._size, memoryview(data)
        while left:
            left = left[os.pwrite(self._fd, left, at + len(data) - len(left)) :]
        self._size += len(data)
        self._disk.used += len(data)
        return at, len(data)

    def get(self, piece: Piece) -> str:
        """A text that was kept."""
        at, size = piece
        return os.pread(self._fd, size, at).decode("utf-8", "surrogatepass")

    def give_back(self) -> None:
        """Its place counts for others: nothing is put here any more. Who still reads can go on."""
        self._disk.used -= self._size
        self._size = 0


def _end(descriptor: int, path: Path) -> None:
    os.close(descriptor)
    with suppress(OSError):
        path.unlink()
