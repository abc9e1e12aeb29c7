"""One checkpoint per file, beside it: `.ipynb_checkpoints/<stem>-checkpoint<ext>`."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from himalia_singleuser.answers import timestamp
from himalia_singleuser.contents import atomic
from himalia_singleuser.errors import BadRequest, NotFound

FOLDER = ".ipynb_checkpoints"
ONLY_ID = "checkpoint"
ID = re.compile(r"[\w-]+")


def file_of(file: Path) -> Path:
    """Where the checkpoint of `file` lies."""
    stem, extension = os.path.splitext(file.name)
    return file.parent / FOLDER / f"{stem}-{ONLY_ID}{extension}"


def models(file: Path) -> list[dict[str, str]]:
    """None or one."""
    try:
        return [_model(file_of(file).stat())]
    except OSError:
        return []


def create(file: Path) -> dict[str, str]:
    """Keep the present content. NotFound when there is none."""
    if file.is_dir():
        raise BadRequest(f"{file.name!r} is a directory: only files have checkpoints", reason="bad type")
    copy = file_of(file)
    try:
        data = file.read_bytes()
        copy.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise atomic.explain(error, file.name) from None
    atomic.write(copy, data)
    return _model(copy.stat())


def restore(file: Path, identifier: str) -> None:
    """Bring the kept content back."""
    copy = _existing(file, identifier)
    try:
        data = copy.read_bytes()
    except OSError as error:
        raise atomic.explain(error, file.name) from None
    atomic.write(file, data)


def delete(file: Path, identifier: str) -> None:
    """Forget one; the folder goes with the last."""
    _existing(file, identifier).unlink()
    _tidy(file)


def delete_all(file: Path) -> None:
    """Forget what was kept of a file that is gone."""
    try:
        file_of(file).unlink()
    except OSError:
        return
    _tidy(file)


def move(old: Path, new: Path) -> None:
    """The checkpoint goes along with its file. What stood in the way belonged to a file that is gone."""
    copy = file_of(old)
    if not copy.is_file():
        return
    target = file_of(new)
    try:
        target.parent.mkdir(exist_ok=True)
        shutil.move(copy, target)
    except OSError:
        return
    _tidy(old)


def _existing(file: Path, identifier: str) -> Path:
    copy = file_of(file)
    if identifier != ONLY_ID or not copy.is_file():
        raise NotFound(f"Checkpoint does not exist: {file.name}@{identifier}")
    return copy


def _tidy(file: Path) -> None:
    try:
        file_of(file).parent.rmdir()
    except OSError:
        return


def _model(status: os.stat_result) -> dict[str, str]:
    return {"id": ONLY_ID, "last_modified": timestamp(status.st_mtime)}
