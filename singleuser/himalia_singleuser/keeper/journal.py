"""What a kernel published since the server last wrote down what it knows: raw messages in files, oldest first.

Files, because what was written to one is there whatever is killed next. Each holds about `PART_BYTES`; those that the
server needs no longer are deleted whole. No import here may be heavy: the keeper exists once per person with a kernel.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress

Frames = Sequence[bytes]

DELIMITER = b"<IDS|MSG>"
PART_BYTES = 1024 * 1024
MOST_BYTES = 512 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_COUNT = struct.Struct("<I")
_MOST_FRAMES = 100_000


def mark_of(frames: Frames) -> bytes:
    """A message's signature. It covers the header with its unique id, so no two messages have the same."""
    try:
        return frames[frames.index(DELIMITER) + 1]
    except (ValueError, IndexError):
        return b""


def short(mark: bytes) -> int:
    """Eight bytes of a mark."""
    try:
        return int(mark[:16], 16)
    except ValueError:
        return 0


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
        self._parts: dict[int, tuple[int, array[int]]] = {}
        self._fd = -1
        self._next = (_parts(folder, kernel_id) or [0])[-1] + 1
        self.missed = 0
        """Messages that no longer fitted since the last `trim` that made room."""

    def append(self, frames: Frames) -> None:
        """Write one message down, or count it as missed."""
        sizes = struct.pack(f"<{len(frames) + 1}I", len(frames), *map(len, frames))
        entry = b"".join((sizes, *frames))
        total = sum(size for size, _ in self._parts.values())
        if self.missed or total + len(entry) > self._most:
            self.missed += 1  # also what would fit: a reader must be able to trust that there is no hole
            return
        part = self._next - 1
        if self._fd < 0 or self._parts[part][0] > PART_BYTES:
            part = self._begin()
        try:
            written = os.write(self._fd, entry)
        except OSError:
            written = 0
        size, marks = self._parts[part]
        if written < len(entry):  # the disk is full
            with suppress(OSError):
                os.ftruncate(self._fd, size)
            self.missed += 1
            return
        marks.append(short(mark_of(frames)))
        self._parts[part] = (size + len(entry), marks)

    def trim(self, mark: bytes) -> None:
        """Nothing up to the message of this mark is needed any more; what lies in its own part stays."""
        wanted = short(mark)
        for part in sorted(self._parts, reverse=True):
            if wanted in self._parts[part][1]:
                for older in [one for one in self._parts if one < part]:
                    self._delete(older)
                    # What was missed lies behind, or the server knows it: from here on there is no hole.
                    self.missed = 0
                return

    def clear(self) -> None:
        """Delete it all."""
        for part in _parts(self._folder, self._kernel_id):
            self._delete(part)
        self._close()
        self.missed = 0

    def _begin(self) -> int:
        self._close()
        part, self._next = self._next, self._next + 1
        self._parts[part] = (0, array("Q"))
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
                while (frames := _read_one(file.read)) is not None:
                    self._at += 4 + 4 * len(frames) + sum(map(len, frames))
                    yield frames


def _read_one(read: object) -> list[bytes] | None:
    assert callable(read)
    head = read(_COUNT.size)
    if len(head) < _COUNT.size:
        return None
    (count,) = _COUNT.unpack(head)
    if count > _MOST_FRAMES:
        return None
    sizes = read(4 * count)
    if len(sizes) < 4 * count:
        return None
    frames = [read(size) for size in struct.unpack(f"<{count}I", sizes)]
    whole = all(
        len(one) == size for one, size in zip(frames, struct.unpack(f"<{count}I", sizes), strict=True)
    )
    return frames if whole else None
