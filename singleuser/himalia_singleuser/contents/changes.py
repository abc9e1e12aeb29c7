"""New, copied, moved and deleted files. Everything here blocks: handlers call it in threads."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import shutil
from pathlib import Path
from typing import Any

from himalia_singleuser.contents import atomic, checkpoints, outputs
from himalia_singleuser.contents.models import Model
from himalia_singleuser.contents.paths import join, parent_of
from himalia_singleuser.contents.store import Store, Wanted
from himalia_singleuser.errors import BadRequest, Conflict, Forbidden, NotFound

LARGEST_COPY = 500 * 1024 * 1024
COPY_SUFFIX = re.compile(r"-Copy\d*\Z")


def new_untitled(store: Store, folder: str, model: dict[str, Any]) -> Model:
    """A new empty thing in `folder` under a name that is free."""
    folder = _folder(store, folder)
    kind, extension = model.get("type"), model.get("ext") or ""
    if not isinstance(extension, str) or "/" in extension:
        raise BadRequest(f"ext is {extension!r}: it must be like '.py'")
    if extension == ".ipynb" or kind == "notebook":
        kind, stem, insert, extension = "notebook", "Untitled", "", ".ipynb"
    elif kind == "directory":
        stem, insert, extension = "Untitled Folder", " ", ""
    else:
        kind, stem, insert = "file", "untitled", ""
    path = _free(store, folder, stem, extension, insert)
    return store.save(path, {"type": kind, "format": "text"})[0]


def _folder(store: Store, path: str) -> str:
    path, file = store.root.writable(path)
    if file.is_dir():
        return path
    if file.exists():
        raise BadRequest("Cannot POST to files, use PUT instead.")
    raise NotFound(f"No such directory: {path}")


def _free(store: Store, folder: str, stem: str, extension: str, insert: str = "") -> str:
    for number in itertools.count():
        path = join(folder, f"{stem}{insert + str(number) if number else ''}{extension}")
        if not os.path.lexists(store.root.locate(path)):
            return path
    raise AssertionError("unreachable")


def copy(store: Store, source: str, folder: str) -> Model:
    """A copy in `folder`: under the same name if it is free there, else with -Copy1, -Copy2, ..."""
    folder = _folder(store, folder)
    source, file = store.root.shown(source)
    if not os.path.lexists(file):
        raise NotFound(f"No such file: {source}")
    name = source.rpartition("/")[2]
    target = join(folder, name)
    if os.path.lexists(store.root.locate(target)):
        stem, extension = _stem(name)
        target = _free_copy(store, folder, COPY_SUFFIX.sub("", stem), extension)
    try:
        if file.is_dir():
            _copy_folder(file, store.root.locate(target), source)
        else:
            atomic.write(store.root.locate(target), file.read_bytes())
    except OSError as error:
        raise atomic.explain(error, name) from None
    return store.get(target, Wanted(content=False))


def _stem(name: str) -> tuple[str, str]:
    """The number of a copy goes before the first dot, for notebooks before the last."""
    if name.endswith(".ipynb"):
        return name.removesuffix(".ipynb"), ".ipynb"
    stem, dot, rest = name.partition(".")
    return stem, dot + rest


def _free_copy(store: Store, folder: str, stem: str, extension: str) -> str:
    for number in itertools.count(1):
        path = join(folder, f"{stem}-Copy{number}{extension}")
        if not os.path.lexists(store.root.locate(path)):
            return path
    raise AssertionError("unreachable")


def _copy_folder(source: Path, target: Path, path: str) -> None:
    if os.path.realpath(target).startswith(os.path.realpath(source) + "/"):
        raise BadRequest(f"Cannot copy {path!r} into itself")
    size = 0
    for folder, _, names in os.walk(source):
        size += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
        if size > LARGEST_COPY:
            limit = LARGEST_COPY // 2**20
            raise BadRequest(f"Can't copy {path!r}: it holds more than {limit} MB")
    try:
        shutil.copytree(source, target, symlinks=True)
    except shutil.Error:
        raise Forbidden(f"Some files in {path!r} could not be copied") from None


def move(store: Store, old: str, new: str) -> Model:
    """Rename; nothing is ever overwritten."""
    old, old_file = store.root.writable(old)
    new, new_file = store.root.writable(new)
    if not old or not new:
        raise BadRequest("The root cannot be renamed")
    if old == new:
        return store.get(old, Wanted(content=False))
    if not os.path.lexists(old_file):
        raise NotFound(f"No such file: {old}")
    # On file systems that ignore case, the name in other letters is the same file.
    if os.path.lexists(new_file) and not os.path.samefile(old_file, new_file):
        raise Conflict(f"File already exists: {new}")
    if not store.root.locate(parent_of(new)).is_dir():
        raise NotFound(f"No such directory: {parent_of(new)}")
    if new.startswith(old + "/"):
        raise BadRequest(f"Cannot move {old!r} into itself")
    try:
        shutil.move(old_file, new_file)
    except OSError as error:
        raise atomic.explain(error, old) from None
    if not new_file.is_dir():
        checkpoints.move(old_file, new_file)
    return store.get(new, Wanted(content=False))


def clear_outputs(store: Store, path: str, *, if_match: str | None) -> Model:
    """Remove the outputs of a notebook of format 4. What was there is kept as a checkpoint."""
    path, file = store.root.writable(path)
    if not file.is_file():
        raise NotFound(f"No such file: {path}")
    if if_match is not None:
        store.require(path, if_match)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise atomic.explain(error, path) from None
    if (data := outputs.cleared(raw, path)) != raw:
        checkpoints.keep_present(file)
        atomic.write(file, data)
    return store.get(path, Wanted(content=False))


def delete(store: Store, path: str, *, to_trash: bool, whole_folders: bool) -> None:
    """Remove a file or folder; into the trash when it is so set and the trash is on the same disk."""
    path, file = store.root.writable(path)
    if not path:
        raise BadRequest("Can't delete root")
    if not os.path.lexists(file):
        raise NotFound(f"File or directory does not exist: {path}")
    if not os.access(file.parent, os.W_OK):
        raise Forbidden(f"Permission denied: {path}")
    is_folder = file.is_dir() and not file.is_symlink()
    if to_trash and _into_trash(file):
        checkpoints.delete_all(file)
        return
    if is_folder and not whole_folders and not _is_empty(file):
        raise BadRequest(f"Directory {path} not empty")
    try:
        if is_folder:
            shutil.rmtree(file)
        else:
            file.unlink()
    except OSError as error:
        raise atomic.explain(error, path) from None
    checkpoints.delete_all(file)


def _into_trash(file: Path) -> bool:
    if file.parent.stat().st_dev != Path(os.path.expanduser("~")).stat().st_dev:
        # A trash on another disk would mean copying, and on some mounts there is none at all.
        return False
    try:
        importlib.import_module("send2trash").send2trash(str(file))
    except (ImportError, OSError):
        return False
    return True


def _is_empty(folder: Path) -> bool:
    names = set(os.listdir(folder)) - {checkpoints.FOLDER}
    return not names
