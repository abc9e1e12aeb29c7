"""What one stream shows of all that was written to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from himalia_singleuser.recorder.shelf import Piece

LONGEST_LINE = 1024 * 1024
"""A line that is longer can be written over only in what came after that."""
CONTROLS = re.compile("([\r\n\b])")


@dataclass(slots=True)
class Stream:
    """Text as a terminal of endless width would show it: only the last line can still be written over."""

    name: str
    done: list[str] = field(default_factory=list)
    line: str = ""
    at: int = 0
    size: int = 0
    """Characters of the finished lines, on disk or not."""
    shelved: list[Piece] = field(default_factory=list)
    """The first of them, which are on disk."""

    def write(self, text: str) -> None:
        """Add what was printed. However the text is cut into pieces, the result is the same."""
        self._write(text)
        if len(self.line) > LONGEST_LINE:
            self._finish(self.line)

    def _write(self, text: str) -> None:
        if self.at == len(self.line) and "\r" not in text and "\b" not in text:
            finished, newline, rest = text.rpartition("\n")
            if newline:
                self._finish(self.line + finished + newline)
            self.line += rest
            self.at = len(self.line)
            return
        for piece in CONTROLS.split(text):
            match piece:
                case "\n":
                    self._finish(self.line + piece)
                case "\r":
                    self.at = 0
                case "\b":
                    self.at = max(0, self.at - 1)
                case _:
                    self.line = self.line[: self.at] + piece + self.line[self.at + len(piece) :]
                    self.at += len(piece)

    def _finish(self, text: str) -> None:
        self.done.append(text)
        self.size += len(text)
        self.line, self.at = "", 0

    def back_to_place(self) -> str:
        """What must be written after the whole text so that the next letter overwrites the right one."""
        return "\r" + self.line[: self.at] if self.at < len(self.line) else ""

    def text(self) -> str:
        """What is not on disk."""
        self.done = ["".join(self.done)]
        return self.done[0] + self.line
