"""Uploads in chunks: collected in a draft beside the file, which takes its place whole with the last chunk.

A reader sees the old file, or none, until all of the new one is there; and memory holds one chunk at a time.
Everything here blocks: call it from a thread, and for one file from one thread at a time.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from himalia_singleuser.contents import atomic
from himalia_singleuser.errors import BadRequest, Conflict

MOST_OPEN = 64
LAST = -1


@dataclass(slots=True)
class Upload:
    """What has come of one file: where the last chunk begins is known, so that it can be sent again."""

    draft: Path
    last: int = 0
    begin: int = 0
    end: int = 0


class Uploads:
    """The uploads that are under way. The one that waited longest gives way when there are too many."""

    def __init__(self) -> None:
        self._open: dict[str, Upload] = {}

    def add(self, file: Path, number: object, data: bytes) -> Path:
        """Take chunk 1, 2, ... or -1 (the last). The file that holds what has come: a draft, in the end `file`.

        The last chunk may be repeated, for a client that missed the answer. Conflict when one is left out;
        BadRequest when the first never came, for example because the server was started again since.
        """
        if not isinstance(number, int) or isinstance(number, bool) or (number < 1 and number != LAST):
            raise BadRequest(f"chunk is {number!r}: it must be 1, 2, ... and -1 for the last")
        target = Path(os.path.realpath(file))
        upload = self._begin(target) if number == 1 else self._of(target, number)
        try:
            _write(upload, number, data)
            if number != LAST:
                return upload.draft
            atomic.take_place(upload.draft, target)
        except OSError as error:
            self._drop(str(target))
            raise atomic.explain(error, file.name) from None
        del self._open[str(target)]
        return file

    def close(self) -> None:
        """Forget what was not finished, the drafts included."""
        for target in list(self._open):
            self._drop(target)

    def _begin(self, target: Path) -> Upload:
        self._drop(str(target))
        while len(self._open) >= MOST_OPEN:
            self._drop(next(iter(self._open)))
        # The name is fixed, so that a server that was killed leaves at most one draft per file behind.
        upload = Upload(target.with_name(f".~{target.name[:100]}.upload"))
        with contextlib.suppress(OSError):
            upload.draft.unlink()
        self._open[str(target)] = upload
        return upload

    def _of(self, target: Path, number: int) -> Upload:
        upload = self._open.get(str(target))
        if upload is None:
            raise BadRequest("The first chunk of this upload is missing: begin again with chunk 1")
        if number not in {LAST, upload.last, upload.last + 1}:
            raise Conflict(
                f"chunk {upload.last + 1} of {target.name!r} is due, not {number}: send it, or chunk 1"
            )
        return upload

    def _drop(self, target: str) -> None:
        upload = self._open.pop(target, None)
        if upload is not None:
            with contextlib.suppress(OSError):
                upload.draft.unlink()


def _write(upload: Upload, number: int, data: bytes) -> None:
    begin = upload.begin if number == upload.last else upload.end
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(upload.draft, flags, 0o666), "wb") as out:
        out.truncate(begin)
        out.seek(begin)
        out.write(data)
    upload.last, upload.begin, upload.end = number, begin, begin + len(data)
