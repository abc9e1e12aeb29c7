"""What a kernel published since the server last wrote down what it knows: messages as they were on the wire, in files.

Files, because what was written to one is there whatever is killed next. Each holds about `PART_BYTES`; those that the
server needs no longer are deleted whole. No import here may be heavy: the keeper exists once per person with a kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from himalia_singleuser.keeper.wire import messages

Frames = Sequence[bytes]

DELIMITER = b"<IDS|MSG>"
PART_BYTES = 1024 * 1024
MOST_BYTES = 512 * 1024 * 1024


def mark_of(frames: Frames) -> bytes:
    """A message's signature. It covers the header with its unique id, so no two messages have the same."""
    try:
        return frames[frames.index(DELIMITER) + 1]
    except (ValueError, IndexError):
        return b""


def _parts(folder: str, kernel_id: str) -> list[int]:
    begin = f"{kernel_id}.journal."
    return sorted(
        int(name[len(begin) :])
        for name in os.listdir(folder)
        if name.startswith(begin) and name[len(begin) :].isdecimal()
    )


def _path(folder: str, kernel_id: str, part: int) -> str:
    return f"{folder}/{kernel_id}.journal.{part}"


class Journal:
    """The writer's side. Blocking, but only on the page cache."""

    def __init__(self, folder: str, kernel_id: str, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._kernel_id, self._most = folder, kernel_id, most_bytes
        self._parts: dict[int, int] = {}
        self._fd = -1
        self._next = (_parts(folder, kernel_id) or [0])[-1] + 1
        self.missed = 0
        """Messages that no longer fitted since the last `trim` that made room."""

    def append(self, raw: bytes, count: int = 1) -> None:
        """Write whole messages down, `count` of them, or count them as missed."""
        total = sum(self._parts.values())
        if self.missed or total + len(raw) > self._most:
            self.missed += count  # also what would fit: a reader must be able to trust that there is no hole
            return
        part = self._next - 1
        if self._fd < 0 or self._parts[part] > PART_BYTES:
            part = self._begin()
        try:
            written = os.write(self._fd, raw)
        except OSError:
            written = 0
        if written < len(raw):  # the disk is full
            with suppress(OSError):
                os.ftruncate(self._fd, self._parts[part])
            self.missed += count
            return
        self._parts[part] += len(raw)

    def trim(self, mark: bytes) -> None:
        """Nothing up to the message of this mark is needed any more; what lies in its own part stays."""
        for part in sorted(self._parts, reverse=True):
            if self._holds(part, mark):
                for older in [one for one in self._parts if one < part]:
                    self._delete(older)
                    # What was missed lies behind, or the server knows it: from here on there is no hole.
                    self.missed = 0
                return

    def _holds(self, part: int, mark: bytes) -> bool:
        try:
            with open(_path(self._folder, self._kernel_id, part), "rb") as file:
                return bool(mark) and mark in file.read()
        except OSError:
            return False

    def clear(self) -> None:
        """Delete it all."""
        for part in _parts(self._folder, self._kernel_id):
            self._delete(part)
        self._close()
        self.missed = 0

    def _begin(self) -> int:
        self._close()
        part, self._next = self._next, self._next + 1
        self._parts[part] = 0
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(_path(self._folder, self._kernel_id, part), flags, 0o600)
        return part

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _delete(self, part: int) -> None:
        self._parts.pop(part, None)
        with suppress(OSError):
            os.unlink(_path(self._folder, self._kernel_id, part))


class Reader:
    """The reader's side: `read` gives what is new since the last time, while the writer may go on."""

    def __init__(self, folder: str, kernel_id: str) -> None:
        self._folder, self._kernel_id = folder, kernel_id
        self._part, self._at = 0, 0

    def rewind(self) -> None:
        """Begin again."""
        self._part, self._at = 0, 0

    def read(self) -> Iterator[list[bytes]]:
        """Whole messages only: what was being written when its writer was killed is left out."""
        for part in _parts(self._folder, self._kernel_id):
            if part < self._part:
                continue
            if part > self._part:
                self._part, self._at = part, 0
            try:
                file = open(_path(self._folder, self._kernel_id, part), "rb")  # noqa: SIM115
            except FileNotFoundError:
                continue
            with file:
                file.seek(self._at)
                raw, begin = file.read(), self._at
            for frames, end in messages(raw):
                self._at = begin + end
                yield frames
