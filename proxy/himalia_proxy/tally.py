"""How many connections each address has, over all worker processes, in memory that they share.

Each process writes a part of its own and reads all, so there is no lock and no message; the part of a killed process is
emptied by the one in its place. Who counts first and looks then never lets one too many in.
"""

from __future__ import annotations

import mmap
import os
import socket
import zlib
from collections import Counter
from typing import Final

_KEY: Final = 16
_WAYS: Final = 16
_BUCKETS: Final = 2048
_COUNTS: Final = _WAYS * _KEY  # where in a bucket the counts begin, two bytes each, behind the keys
_BUCKET: Final = _COUNTS + _WAYS * 2
_PART: Final = _BUCKETS * _BUCKET
_MOST: Final = 0xFFFF


SharedTally = tuple[int, int, int]
"""What a `Tally` is made of: a descriptor, whose part, of how many."""


def shared_memory(parts: int) -> int:
    """A descriptor of memory for so many processes."""
    descriptor = os.memfd_create("connections")
    os.ftruncate(descriptor, parts * _PART)
    return descriptor


class Tally:
    """One process's side: part `own` of the `parts` behind `descriptor` is its, and begins empty."""

    def __init__(self, descriptor: int, own: int, parts: int) -> None:
        self._memory = mmap.mmap(descriptor, parts * _PART)
        self._own = own * _PART
        self._others = [part * _PART for part in range(parts) if part != own]
        self._memory[self._own : self._own + _PART] = bytes(_PART)
        # Sixteen addresses fit into a bucket; one that finds no place is counted by this process for itself.
        self._beside: Counter[bytes] = Counter()

    def enter(self, address: str) -> int:
        """Count one more; how many that address has now."""
        key, bucket = _place(address)
        at = self._find(self._own + bucket, key)
        if at is None and key not in self._beside:
            at = self._settle(self._own + bucket, key)
        if at is None:
            self._beside[key] += 1
            mine = self._beside[key]
        else:
            mine = min(self._count(at) + 1, _MOST)
            self._memory[at : at + 2] = mine.to_bytes(2, "little")
        return mine + sum(self._of(part + bucket, key) for part in self._others)

    def leave(self, address: str) -> None:
        """One of its connections has ended."""
        key, bucket = _place(address)
        if self._beside.get(key):
            self._beside[key] -= 1
            if not self._beside[key]:
                del self._beside[key]
            return
        at = self._find(self._own + bucket, key)
        if at is not None:
            self._memory[at : at + 2] = max(self._count(at) - 1, 0).to_bytes(2, "little")

    def close(self) -> None:
        """Let the memory go."""
        self._memory.close()

    def _of(self, bucket: int, key: bytes) -> int:
        at = self._find(bucket, key)
        return 0 if at is None else self._count(at)

    def _count(self, at: int) -> int:
        return int.from_bytes(self._memory[at : at + 2], "little")

    def _find(self, bucket: int, key: bytes) -> int | None:
        """Where the count of `key` is, in a bucket."""
        keys = self._memory[bucket : bucket + _COUNTS]
        at = keys.find(key)
        while at > 0 and at % _KEY:  # not a key, but the end of one and the beginning of the next
            at = keys.find(key, at + 1)
        return None if at < 0 else bucket + _COUNTS + at // _KEY * 2

    def _settle(self, bucket: int, key: bytes) -> int | None:
        """A place that nobody has: where its count is."""
        for way in range(_WAYS):
            at = bucket + _COUNTS + way * 2
            if not self._count(at):
                self._memory[bucket + way * _KEY : bucket + (way + 1) * _KEY] = key
                return at
        return None


def _place(address: str) -> tuple[bytes, int]:
    """An address as 16 bytes, and where its bucket begins."""
    plain = address.partition("%")[0]
    if ":" in plain:
        key = socket.inet_pton(socket.AF_INET6, plain)
    else:
        key = bytes(10) + b"\xff\xff" + socket.inet_aton(plain)
    return key, zlib.crc32(key) % _BUCKETS * _BUCKET
