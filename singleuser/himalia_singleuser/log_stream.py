"""Where log lines go."""

from __future__ import annotations

import os
from contextlib import suppress


class LogStream:
    """Lines straight to a descriptor; one that cannot be written is lost.

    A full disk, or a reader that is gone, must not end the work that is logged: a file object would raise, then and
    again at the end of the process for what is still in its buffer.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """The length of the text, as files answer, whatever became of it."""
        with suppress(OSError):
            os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""
