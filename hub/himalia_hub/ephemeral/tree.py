"""Reading a session's folder while the session runs: it may change under the reader, and mean it badly.

Every step goes from an open folder to a name in it, never over a path, and never through a symbolic link: whoever
swaps a folder for a link to `/etc` meanwhile has it refused, not followed. What does not belong to the session's
account (a hard link to somebody else's file) is left out.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from himalia_hub.errors import HimaliaError

DEEPEST = 100
CHUNK = 256 * 1024
NOT_WORK = frozenset({".cache", ".ipython", ".jupyter", ".local"})
"""Folders in a home that programs make for themselves."""


class TooLarge(HimaliaError):
    """There is more in the folder than may be taken out of it."""

    status = 413
    code = "too-large"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the folder: `path` is relative, with slashes; `file`, of a regular one, is open until the next."""

    path: str
    info: os.stat_result
    file: BinaryIO | None = None
    link: str = ""


def entries(folder: Path, *, owner: int | None) -> Iterator[Entry]:
    """Folders before what is in them, regular files and symbolic links, in the order of their names.

    `owner` is the session's account; None where it runs under the hub's own.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield from _below(top, "", owner, 1)
    finally:
        os.close(top)


def _below(folder: int, prefix: str, owner: int | None, depth: int) -> Iterator[Entry]:
    if depth > DEEPEST:
        return
    for name in sorted(os.listdir(folder)):
        if depth == 1 and name in NOT_WORK:
            continue
        # What cannot be read (any more) is no reason to lose the rest.
        with suppress(OSError):
            yield from _one(folder, name, prefix + name, owner, depth)


def _one(folder: int, name: str, path: str, owner: int | None, depth: int) -> Iterator[Entry]:
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if owner is not None and info.st_uid != owner:
        return
    if stat.S_ISLNK(info.st_mode):
        yield Entry(path, info, link=os.readlink(name, dir_fd=folder))
    elif stat.S_ISDIR(info.st_mode):
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            yield Entry(path, info)
            yield from _below(below, path + "/", owner, depth + 1)
        finally:
            os.close(below)
    elif stat.S_ISREG(info.st_mode):
        # Without O_NONBLOCK a pipe that took the file's place would hold the reader for ever.
        number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with open(number, "rb", buffering=0) as file:
            now = os.fstat(number)
            if stat.S_ISREG(now.st_mode) and (owner is None or now.st_uid == owner):
                yield Entry(path, now, file=file)


def measure(folder: Path, *, owner: int | None, most: int) -> int:
    """Bytes of its files. TooLarge when there are more than `most`. Blocking."""
    size = 0
    for entry in entries(folder, owner=owner):
        size += entry.info.st_size if entry.file else 0
        if size > most:
            raise _too_large(most)
    return size


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        f"There is more than {most / 1e6:g} MB in this session.",
        remedy="remove what you do not need, and try again",
    )


def zipped(folder: Path, *, owner: int | None, most: int, inside: str) -> Generator[bytes]:
    """The folder as a zip archive, piece by piece, everything below the folder `inside`. Blocking between pieces.

    Symbolic links are left out, for unpacking them is not safe everywhere. It ends short, as a broken archive, when
    the files have grown beyond `most` meanwhile.
    """
    import zipfile  # like tarfile below: half a megabyte, for sessions from links

    sink = _Sink()
    size = 0
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:  # type: ignore[call-overload]
        for entry in entries(folder, owner=owner):
            name = f"{inside}/{_text(entry.path)}"
            if entry.link:
                continue
            if entry.file is None:
                archive.writestr(zipfile.ZipInfo(name + "/"), b"")
                continue
            about = zipfile.ZipInfo(name, date_time=_moment(entry.info.st_mtime))
            about.compress_type = zipfile.ZIP_DEFLATED
            about.external_attr = (0o755 if entry.info.st_mode & 0o100 else 0o644) << 16
            with archive.open(about, "w", force_zip64=True) as target:
                while piece := entry.file.read(CHUNK):
                    size += len(piece)
                    if size > most:
                        raise TooLarge("The files have grown while they were read.")
                    target.write(piece)
                    yield sink.taken()
    yield sink.taken()


def packed(folder: Path, sink: BinaryIO, *, owner: int | None, most: int, end: str) -> None:
    """The folder as a tar archive with symbolic links, and a last member `end` once all is in it. Blocking."""
    import tarfile

    left = most
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries(folder, owner=owner):
            about = tarfile.TarInfo(entry.path)
            about.mode, about.mtime = entry.info.st_mode & 0o777, int(entry.info.st_mtime)
            if entry.link:
                about.type, about.linkname = tarfile.SYMTYPE, entry.link
            elif entry.file is None:
                about.type = tarfile.DIRTYPE
            else:
                about.size = entry.info.st_size
            left -= about.size
            if left < 0:
                raise _too_large(most)
            archive.addfile(about, _Exactly(entry.file, about.size) if entry.file else None)
        archive.addfile(tarfile.TarInfo(end))


class _Exactly:
    """A file as long as it was said to be, though somebody writes it meanwhile."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, most: int = -1) -> bytes:
        """The next bytes; zeros where the file has become shorter."""
        wanted = self._left if most < 0 else min(most, self._left)
        data = b""
        while len(data) < wanted and (piece := self._file.read(wanted - len(data))):
            data += piece
        self._left -= wanted
        return data.ljust(wanted, b"\0")


class _Sink:
    """What zipfile writes to: a pipe without a position."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def taken(self) -> bytes:
        """What was written since it was last asked."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def _text(path: str) -> str:
    """A path as text that every archive can hold; bytes that are no UTF-8 become question marks."""
    return os.fsencode(path).decode("utf-8", "replace")


def _moment(seconds: float) -> tuple[int, int, int, int, int, int]:
    """A time as zip knows it: from 1980 to 2107."""
    at = time.gmtime(max(0, seconds))
    return (min(max(at.tm_year, 1980), 2107), at.tm_mon, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec)
