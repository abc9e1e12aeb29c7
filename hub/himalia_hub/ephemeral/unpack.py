"""Unpacks an archive: `python -I -m himalia_hub.ephemeral.unpack ARCHIVE FOLDER BYTES FILES`.

A process of its own, as git is: a stranger's archive is read under limits of memory and file size, and can be killed.
What an archive says of itself is not believed: bytes are counted as they are written. Only folders and regular files
are made; links and devices are left out. A single folder at the top, as hosts of archives put one there, is not kept.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

MEMORY_BYTES = 1 << 30
PIECE = 1 << 20

Entry = tuple[str, bool, int, IO[bytes] | None]
"""Name, whether anybody may run it, size as told, content; None for a folder."""


class Unfit(Exception):
    """The archive cannot be unpacked here; the message is for whoever opened the link."""


def unpack(archive: Path, folder: Path, *, most_bytes: int, most_files: int) -> None:
    """Write the archive's files into the new `folder`. Unfit says why not; then the folder may be there, half full."""
    folder.mkdir(parents=True)
    files = written = 0
    for name, runs, told, content in _entries(archive):
        path = folder / _inside(name)
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        files += 1
        if files > most_files:
            raise Unfit(f"The archive holds more than {most_files:,} files.")
        if written + told > most_bytes:
            raise Unfit(f"The archive holds more than {most_bytes / 1e6:,.0f} MB.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            while piece := content.read(PIECE):
                written += len(piece)
                if written > most_bytes:
                    raise Unfit(f"The archive holds more than {most_bytes / 1e6:,.0f} MB.")
                target.write(piece)
        path.chmod(0o755 if runs else 0o644)
    _without_single_top(folder)


def _entries(archive: Path) -> Iterator[Entry]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                mode = info.external_attr >> 16
                if info.is_dir():
                    yield info.filename, False, 0, None
                elif not stat.S_IFMT(mode) or stat.S_ISREG(mode):
                    with packed.open(info) as content:
                        yield info.filename, bool(mode & 0o100), info.file_size, content
        return
    with tarfile.open(archive, "r|*") as packed:
        for member in packed:
            if member.isdir():
                yield member.name, False, 0, None
            elif member.isreg():
                yield member.name, bool(member.mode & 0o100), member.size, packed.extractfile(member)


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise Unfit(f"The archive holds {name[:100]!r}, which leads outside of it.")
    return path


def _without_single_top(folder: Path) -> None:
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return
    aside = folder.with_name(folder.name + ".top")
    os.replace(entries[0], aside)
    folder.rmdir()
    os.replace(aside, folder)


def main(archive: str, folder: str, most_bytes: int, most_files: int) -> None:
    """One archive. SystemExit with the words for whoever opened the link."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unpack(Path(archive), Path(folder), most_bytes=most_bytes, most_files=most_files)
    except Unfit as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit("The archive takes too much memory to unpack.")
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        tarfile.TarError,
    ) as error:
        sys.exit(f"It is no zip or tar archive that can be unpacked: {str(error)[:200]}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
