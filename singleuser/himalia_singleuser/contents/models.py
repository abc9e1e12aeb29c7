"""The JSON model of a file, notebook or folder."""

from __future__ import annotations

import mimetypes
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any

from himalia_singleuser.answers import timestamp

Model = dict[str, Any]

HIDDEN_GLOBS_SUFFIX = (".pyc", ".pyo", "~")
HIDDEN_NAMES = frozenset({"__pycache__", ".DS_Store"})


def type_of(path: str, status: os.stat_result) -> str:
    """directory, notebook or file."""
    if stat.S_ISDIR(status.st_mode):
        return "directory"
    return "notebook" if path.endswith(".ipynb") else "file"


def model_of(path: str, file: Path | str, status: os.stat_result, *, kind: str | None = None) -> Model:
    """The model without content. `kind` overrides the type (a notebook read as a file)."""
    kind = kind or type_of(path, status)
    created = getattr(status, "st_birthtime", status.st_ctime)
    return {
        "name": path.rpartition("/")[2],
        "path": path,
        "last_modified": timestamp(status.st_mtime),
        "created": timestamp(created),
        "content": None,
        "format": None,
        "mimetype": guess_type(path) if kind == "file" else None,
        "size": None if kind == "directory" else status.st_size,
        "writable": os.access(file, os.W_OK),
        "hash": None,
        "hash_algorithm": None,
        "type": kind,
    }


def guess_type(path: str) -> str | None:
    """The MIME type that the name suggests."""
    extension = os.path.splitext(path)[1]
    if extension.lower() in mimetypes.encodings_map:
        return mimetypes.guess_type(os.path.basename(path))[0]
    return _type_of_extension(extension)


@lru_cache(maxsize=512)
def _type_of_extension(extension: str) -> str | None:
    return mimetypes.guess_type("name" + extension)[0]


def is_listed(name: str) -> bool:
    """Left out of listings: caches, editors' back-ups and our own files on their way."""
    return not (name in HIDDEN_NAMES or name.endswith(HIDDEN_GLOBS_SUFFIX) or name.startswith(".~"))


def listing(path: str, folder: Path, *, allow_hidden: bool, inside: str | None) -> list[Model]:
    """What a folder holds, unsorted. `inside`: real root that links must not leave, None to follow."""
    models = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if (name.startswith(".") and not allow_hidden) or not is_listed(name):
                continue
            model = _entry_model(path, entry, inside)
            if model is not None:
                models.append(model)
    return models


def _entry_model(path: str, entry: os.DirEntry[str], inside: str | None) -> Model | None:
    """None for what cannot be opened: dangling links, sockets, no permission, names that are not Unicode."""
    try:
        entry.name.encode()
        if entry.is_symlink() and inside is not None:
            real = os.path.realpath(entry.path)
            if not (real == inside or real.startswith(inside.rstrip("/") + "/")):
                return None
        status = entry.stat()
    except (OSError, UnicodeEncodeError):
        return None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return None
    child = f"{path}/{entry.name}" if path else entry.name
    return model_of(child, entry.path, status)
