"""The iopub rate limit of one browser: when output is left out, when that is said. Pure, clock given."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

FREE_TYPES = frozenset({"status", "comm_open", "execute_input"})
RESUME_BELOW = 0.8
SLICES = 300


class Verdict(Enum):
    """What to do with one message."""

    PASS = auto()
    DROP = auto()
    DROP_AND_TELL = auto()


class RateLimit:
    """Messages and stream bytes over a sliding window. A rate of 0 is no limit.

    Past a limit everything countable is dropped until the rate is under 80 % of it: without that gap an
    endless loop would switch the limit on and off with every message.
    """

    def __init__(self, *, messages_per_s: float, bytes_per_s: float, window_s: float) -> None:
        self._most_messages = messages_per_s * window_s
        self._most_bytes = bytes_per_s * window_s
        self._window_s = window_s
        self.clear()

    def clear(self) -> None:
        """Forget all: the kernel is idle again, and the next cell starts with a clean slate."""
        self._slices: deque[tuple[float, int, int]] = deque()
        self._messages = 0
        self._bytes = 0
        self._cut_messages = False
        self._cut_bytes = False

    def judge(self, msg_type: str, size: int, now: float) -> Verdict:
        """Count one message of `size` content bytes at `now` seconds and say whether it may pass."""
        if msg_type in FREE_TYPES or not (self._most_messages or self._most_bytes):
            return Verdict.PASS
        if not self._most_messages and msg_type != "stream" and not self._cut_bytes:
            return Verdict.PASS  # nothing of it is counted
        self._forget(now - self._window_s)
        counted = size if msg_type == "stream" else 0
        was_cut = self._cut_messages or self._cut_bytes
        self._cut_messages = _over(self._messages + 1, self._most_messages, cut=self._cut_messages)
        self._cut_bytes = _over(self._bytes + counted, self._most_bytes, cut=self._cut_bytes)
        # What is dropped still counts: the limit measures what the kernel sends, not what passes.
        self._count(now, counted)
        if not (self._cut_messages or self._cut_bytes):
            return Verdict.PASS
        return Verdict.DROP if was_cut else Verdict.DROP_AND_TELL

    @property
    def cause(self) -> str:
        """Which of the two limits holds output back now: "message", "data" or nothing."""
        return "message" if self._cut_messages else "data" if self._cut_bytes else ""

    def _count(self, now: float, size: int) -> None:
        # Counted in slices of the window, not one by one: the list stays short at any rate.
        if self._slices and now - self._slices[-1][0] < self._window_s / SLICES:
            start, messages, held = self._slices[-1]
            self._slices[-1] = (start, messages + 1, held + size)
        else:
            self._slices.append((now, 1, size))
        self._messages += 1
        self._bytes += size

    def _forget(self, before: float) -> None:
        while self._slices and self._slices[0][0] < before:
            _, messages, size = self._slices.popleft()
            self._messages -= messages
            self._bytes -= size


def _over(value: float, most: float, *, cut: bool) -> bool:
    if not most:
        return False
    return value > (most * RESUME_BELOW if cut else most)
