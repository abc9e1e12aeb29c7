"""Kept messages that no longer fit into memory, in an unnamed file: it is gone with the process, whatever ends it."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from himalia_singleuser.kernels.messages import Message, parse_object

HEAD = struct.Struct("<QHHH")
"""Number, length of the target (0xFFFF: for all), length of the channel, count of parts."""
FOR_ALL = 0xFFFF
SPILL_FOLDER = Path("/var/tmp")
"""On disk by the file hierarchy standard; `/tmp` may be memory. Where it cannot be written, nothing is spilled."""


class Spill:
    """A queue on disk, oldest first; read from any place in it, freed as a whole. Blocking, but the page cache's."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self.most_bytes = most_bytes
        self._fd: int | None = None
        self.size = 0

    def append(self, number: int, target: str | None, message: Message) -> bool:
        """Whether it was taken: not past the bound, nor when the disk is full."""
        target_part = b"" if target is None else target.encode(errors="surrogatepass")[: FOR_ALL - 1]
        channel = message.channel.encode()
        entry = b"".join(
            (
                HEAD.pack(
                    number,
                    FOR_ALL if target is None else len(target_part),
                    len(channel),
                    len(message.parts),
                ),
                struct.pack(f"<{len(message.parts)}Q", *map(len, message.parts)),
                target_part,
                channel,
                *message.parts,
            )
        )
        if self.size + len(entry) > self.most_bytes:
            return False
        try:
            if self._fd is None:
                self._fd = _unnamed(self._folder)
            os.pwrite(self._fd, entry, self.size)
        except OSError:
            return False
        self.size += len(entry)
        return True

    def read(self, since: int, session_id: str) -> Iterator[Message]:
        """What this session should see of what is here now. Stays readable after `free`."""
        if self._fd is None:
            return iter(())
        return _entries(os.dup(self._fd), self.size, since, session_id)

    def free(self) -> None:
        """Nobody waits for any of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.size = 0


def _unnamed(folder: Path) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        # Some file systems know no O_TMPFILE.
        fd, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)
        return fd


def _entries(fd: int, end: int, since: int, session_id: str) -> Iterator[Message]:
    at, mine = 0, session_id.encode(errors="surrogatepass")
    try:
        while at < end:
            number, target_size, channel_size, count = HEAD.unpack(os.pread(fd, HEAD.size, at))
            at += HEAD.size
            sizes = struct.unpack(f"<{count}Q", os.pread(fd, 8 * count, at))
            at += 8 * count
            named = 0 if target_size == FOR_ALL else target_size
            target = os.pread(fd, named, at)
            wanted = number >= since and (target_size == FOR_ALL or target == mine)
            start, at = at + named, at + named + channel_size + sum(sizes)
            if wanted:
                yield _message(os.pread(fd, at - start, start), channel_size, sizes)
    finally:
        os.close(fd)


def _message(raw: bytes, channel_size: int, sizes: Sequence[int]) -> Message:
    parts, at = [], channel_size
    for size in sizes:
        parts.append(raw[at : at + size])
        at += size
    return Message(raw[:channel_size].decode(), parts, parse_object(parts[0]) or {})
