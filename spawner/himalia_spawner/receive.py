"""Putting files into a home, as the person whose home it is: `python -I -m himalia_spawner.receive KEY NAME`.

Started under the person's own account with the home as working directory, it reads a tar archive from its standard
input and prints the name of the folder that came of it. The hub, which may be root, writes nothing here itself: what
a person laid in the way (a link to somebody else's folder) leads no further than they could go themselves.

It may be killed anywhere and be started again with the same key: there is one folder in the end, never half of one.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import BinaryIO

from himalia_spawner.base import end_of


class Cut(Exception):
    """The archive came without its end: whoever sent it died."""


def take(home: Path, key: str, name: str, source: BinaryIO) -> str:
    """Unpack the archive into a folder of this name, or of the next that is free; its name. OSError, TarError, Cut."""
    draft, note = home / f".himalia-{key}", home / f".himalia-{key}.done"
    if note.exists() and not draft.exists():
        return note.read_text()
    if not note.exists():
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        try:
            _unpack(source, draft, end_of(key))
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    for number in itertools.count(1):
        final = home / (name if number == 1 else f"{name}-{number}")
        if os.path.lexists(final):
            continue
        # The note first: if it is there and the draft is not, the rename was done.
        new = note.with_suffix(".new")
        new.write_text(final.name)
        os.replace(new, note)
        os.rename(draft, final)
        return final.name
    raise AssertionError("counting never ends")


def forget(home: Path, key: str) -> None:
    """The sender has written down that it is done: nothing need remember it here."""
    (home / f".himalia-{key}.done").unlink(missing_ok=True)


def _unpack(source: BinaryIO, draft: Path, end: str) -> None:
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for member in archive:
            if member.name == end:
                return
            try:
                archive.extract(member, draft, filter="data")
            except tarfile.FilterError:
                continue  # a link that leads out of the folder
    raise Cut


def main() -> int:
    """Take the archive; 1 with one sentence on standard error when that fails."""
    key, name = sys.argv[1:]
    try:
        if name:
            print(take(Path.cwd(), key, name, sys.stdin.buffer))  # noqa: T201 -- this is the answer
        else:
            forget(Path.cwd(), key)
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)  # noqa: T201
        return 1
    except (tarfile.TarError, Cut) as error:
        print(f"the files did not come whole: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
