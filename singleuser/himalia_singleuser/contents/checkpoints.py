"""Earlier contents of a file, kept beside it.

`.ipynb_checkpoints/<stem>-checkpoint<ext>`, called `checkpoint`, is the newest that was asked for: the place and
name of every Jupyter server. What it replaces, and what an autosave is about to replace, goes to
`.ipynb_checkpoints/<name>.kept/`, called by the sha256 of its bytes, so that one content is kept once. The oldest
give way to MOST_KEPT and MOST_BYTES. Everything here blocks: call it from a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from himalia_singleuser.answers import timestamp
from himalia_singleuser.contents import atomic
from himalia_singleuser.errors import ApiError, BadRequest, NotFound

FOLDER = ".ipynb_checkpoints"
ONLY_ID = "checkpoint"
NO_ROOM = 507
MOST_KEPT = 10
MOST_BYTES = 64 * 2**20
AUTOSAVE_EVERY_S = 300


@dataclass(frozen=True, slots=True)
class Kept:
    """One earlier content. `saved` is when the file had it, in seconds."""

    id: str
    copy: Path
    saved: float
    size: int

    def model(self) -> dict[str, str]:
        """As the API tells it."""
        return {"id": self.id, "last_modified": timestamp(self.saved)}


def file_of(file: Path) -> Path:
    """Where the checkpoint of `file` lies that was asked for last."""
    stem, extension = os.path.splitext(file.name)
    return file.parent / FOLDER / f"{stem}-{ONLY_ID}{extension}"


def _older_of(file: Path) -> Path:
    return file.parent / FOLDER / f"{file.name}.kept"


def models(file: Path) -> list[dict[str, str]]:
    """All that are kept, the newest last, which is where Lab looks for it."""
    return [kept.model() for kept in _all(file)]


def _all(file: Path) -> list[Kept]:
    older = _older_of(file)
    found = [_kept(file_of(file), ONLY_ID)]
    with contextlib.suppress(OSError):
        found += [_kept(copy, copy.name) for copy in older.iterdir() if not copy.name.startswith(".")]
    return sorted((kept for kept in found if kept), key=lambda kept: (kept.saved, kept.id == ONLY_ID))


def _kept(copy: Path, identifier: str) -> Kept | None:
    """None for what is no file of its own. A link could lead out of the root: it is not followed."""
    try:
        status = copy.lstat()
    except OSError:
        return None
    if copy.is_symlink() or not copy.is_file() or _folder(copy).is_symlink():
        return None
    return Kept(identifier, copy, status.st_mtime, status.st_size)


def _folder(copy: Path) -> Path:
    return copy.parent if copy.parent.name == FOLDER else copy.parent.parent


def create(file: Path) -> dict[str, str]:
    """Keep the present content as the one that was asked for. NotFound when there is none.

    In safe mode a disk without room keeps nothing, and is no error.
    """
    if file.is_dir():
        raise BadRequest(f"{file.name!r} is a directory: only files have checkpoints", reason="bad type")
    try:
        return _create(file).model()
    except ApiError as error:
        if error.status != NO_ROOM or os.environ.get("HIMALIA_SAFE_MODE") != "1":
            raise
        # Lab opens no file that it cannot make a checkpoint of, and safe mode is for looking what can go.
        status = file.stat()
        return Kept(ONLY_ID, file, status.st_mtime, status.st_size).model()


def _create(file: Path) -> Kept:
    copy = file_of(file)
    try:
        data = file.read_bytes()
        _make_room(copy)
    except OSError as error:
        raise atomic.explain(error, file.name) from None
    if (before := _kept(copy, ONLY_ID)) and (content := _read(before, file)) != data:
        _keep(file, content, before.saved)
    atomic.write(copy, data)
    return Kept(ONLY_ID, copy, copy.stat().st_mtime, len(data))


def before_autosave(file: Path, *, even_first: bool) -> None:
    """Keep what is about to be replaced, if what was kept last is AUTOSAVE_EVERY_S older.

    `even_first`: also when nothing is kept of the file yet. Never in the way of the save: what cannot be kept is not.
    """
    kept = _all(file)
    with contextlib.suppress(OSError):
        saved = file.stat().st_mtime
        if (kept and saved - kept[-1].saved >= AUTOSAVE_EVERY_S) or (not kept and even_first):
            _keep(file, file.read_bytes(), saved)


def restore(file: Path, identifier: str) -> None:
    """Bring a kept content back; the present one is kept in its stead, in case that was a mistake."""
    data = _read(_existing(file, identifier), file)
    keep_present(file)
    atomic.write(file, data)


def keep_present(file: Path) -> None:
    """Keep what a change that nobody can take back is about to replace."""
    with contextlib.suppress(OSError):
        _keep(file, file.read_bytes(), file.stat().st_mtime)


def delete(file: Path, identifier: str) -> None:
    """Forget one; the folders go with the last."""
    try:
        _existing(file, identifier).copy.unlink()
    except OSError as error:
        raise atomic.explain(error, file.name) from None
    _tidy(file)


def delete_all(file: Path) -> None:
    """Forget what was kept of a file that is gone."""
    for kept in _all(file):
        with contextlib.suppress(OSError):
            kept.copy.unlink()
    _tidy(file)


def move(old: Path, new: Path) -> None:
    """All go along with their file. What stood in the way belonged to a file that is gone."""
    if not _all(old):
        return
    delete_all(new)
    with contextlib.suppress(OSError):
        _make_room(file_of(new))
        for source, target in ((file_of(old), file_of(new)), (_older_of(old), _older_of(new))):
            if source.exists():
                shutil.move(source, target)
    _tidy(old)


def _keep(file: Path, data: bytes, saved: float) -> None:
    """One more older content. A disk without room for it, or a name too long, leaves it out."""
    copy = _older_of(file) / hashlib.sha256(data).hexdigest()
    with contextlib.suppress(OSError, ApiError):
        _make_room(copy)
        copy.parent.mkdir(exist_ok=True)
        if not copy.exists():
            atomic.write(copy, data, durable=False)
        os.utime(copy, (saved, saved))
    older = [kept for kept in _all(file) if kept.id != ONLY_ID]
    while older and (len(older) >= MOST_KEPT or sum(kept.size for kept in older) > MOST_BYTES):
        with contextlib.suppress(OSError):
            older[0].copy.unlink()
        del older[0]


def _make_room(copy: Path) -> None:
    """The folder is there and no link leads the copy elsewhere."""
    folder = _folder(copy)
    folder.mkdir(exist_ok=True)
    if folder.is_symlink():
        raise BadRequest(f"{FOLDER} is a link: checkpoints are kept in a folder beside the file only")
    for place in (copy.parent, copy):
        if place.is_symlink():
            place.unlink()


def _existing(file: Path, identifier: str) -> Kept:
    for kept in _all(file):
        if kept.id == identifier:
            return kept
    raise NotFound(f"Checkpoint does not exist: {file.name}@{identifier}")


def _read(kept: Kept, file: Path) -> bytes:
    try:
        return kept.copy.read_bytes()
    except OSError as error:
        raise atomic.explain(error, file.name) from None


def _tidy(file: Path) -> None:
    for folder in (_older_of(file), file.parent / FOLDER):
        with contextlib.suppress(OSError):
            folder.rmdir()
