"""Lines for a person in a terminal: coloured when it is one, plain when it is a file."""

from __future__ import annotations

import os
import sys
from typing import TextIO

GREEN, CYAN, RED, BOLD, RESET = "\033[32m", "\033[36m", "\033[31m", "\033[1m", "\033[0m"


class Terminal:
    """Writes steps as they are done. Honours NO_COLOR (no-color.org)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty() and "NO_COLOR" not in os.environ

    def done(self, text: str) -> None:
        """A step is finished."""
        self._line("✓", GREEN, text)

    def note(self, text: str) -> None:
        """Something to know or do."""
        self._line("→", CYAN, text, bold=True)

    def fail(self, text: str) -> None:
        """It cannot go on, and why."""
        self._line("✗", RED, text)

    def hint(self, text: str) -> None:
        """What to do about the line before."""
        print(f"    {text}", file=self._stream, flush=True)

    def progress(self, what: str, done: int, of: int) -> None:
        """How far a long step is: one line that is drawn again, and in a file a line per tenth."""
        if self._colour:
            full = 30 * done // of
            end = "\n" if done == of else ""
            bar = f"{CYAN}{'█' * full}{RESET}{'░' * (30 - full)}"
            print(f"\r{bar} {done}/{of} {what}", end=end, file=self._stream, flush=True)
        elif done == of or done * 10 // of != (done - 1) * 10 // of:
            print(f"· {done}/{of} {what}", file=self._stream, flush=True)

    def count(self, what: str, done: int) -> None:
        """How much of something is done whose end is not known; only a person sees it, on a line drawn again."""
        if self._colour:
            print(
                f"\r\033[K{CYAN}…{RESET} {done:,} {what.replace('_', ' ')}\r",
                end="",
                file=self._stream,
                flush=True,
            )

    def _line(self, mark: str, colour: str, text: str, *, bold: bool = False) -> None:
        if self._colour:
            mark, text = f"{colour}{mark}{RESET}", f"{BOLD}{text}{RESET}" if bold else text
        print(f"{mark} {text}", file=self._stream, flush=True)
