"""What `ps` and /proc show of this process: its arguments and environment at exec, rewritten in place.

A forked child shows its parent's. The kernel reads both from the memory where exec had put them, which is this
process's own; whoever writes there changes what is shown. Nothing refers to it once `os.environ` has been cleared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Area:
    """Where the kernel looks: addresses from /proc/self/stat, fields 48 to 51 of proc(5)."""

    arguments: tuple[int, int]
    environment: tuple[int, int]

    @classmethod
    def of_this_process(cls) -> Area:
        """Read them; all zero where the system does not tell."""
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            columns = file.read().rpartition(")")[2].split()
        first, last, begin, end = (int(each) for each in columns[45:49])
        return cls((first, last), (begin, end))

    def show(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Show these instead, as far as there is room; a system that does not allow it shows the parent's."""
        with suppress(OSError), open("/proc/self/comm", "wb") as file:
            file.write(b"himalia-server")
        with suppress(OSError), open("/proc/self/mem", "r+b", buffering=0) as memory:
            words = b"".join(os.fsencode(word) + b"\0" for word in argv)
            _fill(memory.fileno(), self.arguments, words)
            lines = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
            _fill(memory.fileno(), self.environment, lines)


def _fill(memory: int, area: tuple[int, int], content: bytes) -> None:
    room = area[1] - area[0]
    if room > 0:
        # The last byte stays NUL: the kernel takes anything else for arguments that go on into the environment.
        os.pwrite(memory, content[: room - 1].ljust(room, b"\0"), area[0])
