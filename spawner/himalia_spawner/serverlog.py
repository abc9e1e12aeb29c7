"""A server's output on disk: appended to, rotated at its start, bounded, and read from its end."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TAIL_BYTES = 64 * 1024
_LINE_MAX = 500
# Colours and cursor moves would reach an administrator's terminal by way of the page or the log.
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]"  # CSI: colours, cursor moves
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: window titles, links
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def open_new(path: Path) -> int:
    """A descriptor to append to a fresh log at `path`, 0600; what was there becomes `.1`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        path.replace(_older(path))
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, flags, 0o600)


def trim(path: Path, max_bytes: int) -> bool:
    """Cut a log that outgrew `max_bytes` to its newer half; True if that was needed.

    The server goes on writing through its own descriptor, so the file is emptied, not replaced: it was opened
    for appending, and the next line lands at its new end. What it writes in between may be lost.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
        with open(path, "rb") as old:
            old.seek(-(max_bytes // 2), os.SEEK_END)
            kept = old.read(max_bytes // 2).partition(b"\n")[2]
        with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as new:
            new.truncate(0)
            new.write(kept)
    except FileNotFoundError:
        return False
    return True


def tail(path: Path, lines: int) -> list[str]:
    """The last `lines` of the log, oldest first, without control characters; empty if there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        return []
    if size > _TAIL_BYTES:
        data = data.partition(b"\n")[2] or data
    text = data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    found = [_CONTROL.sub("", line)[:_LINE_MAX] for line in text.split("\n") if line.strip()]
    return found[-lines:] if lines > 0 else []


def remove(path: Path) -> None:
    """Delete the log and its older part."""
    path.unlink(missing_ok=True)
    _older(path).unlink(missing_ok=True)


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
