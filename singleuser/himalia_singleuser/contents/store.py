"""Reading and saving below the root. Everything here blocks: handlers call it in threads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from himalia_singleuser.contents import atomic, checkpoints, models, notebooks, outputs
from himalia_singleuser.contents.models import Model, listing, model_of, type_of
from himalia_singleuser.contents.paths import Root
from himalia_singleuser.contents.shape import complaint
from himalia_singleuser.contents.trust import Notary
from himalia_singleuser.contents.uploads import Uploads
from himalia_singleuser.errors import ApiError, BadRequest, Forbidden, NotFound, PreconditionFailed

HASH = "sha256"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a GET asks for."""

    type: str | None = None
    format: str | None = None
    content: bool = True
    hash: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """The files of one person."""

    root: Root
    notary: Notary
    uploads: Uploads = field(default_factory=Uploads)
    clear_outputs: bool = False
    """Whether notebooks are written without outputs."""

    def get(self, path: str, wanted: Wanted) -> Model:
        """The model of what is at `path`."""
        path, file = self.root.shown(path)
        status = self._status(path, file)
        kind = type_of(path, status)
        if wanted.type == "directory" and kind != "directory":
            raise BadRequest(f"{path} is not a directory", reason="bad type")
        if kind == "directory":
            if wanted.type not in {None, "directory"}:
                raise BadRequest(f"{path} is a directory, not a {wanted.type}", reason="bad type")
            return self._directory(path, file, status, wanted)
        if not stat.S_ISREG(status.st_mode):
            raise BadRequest(f"Cannot read non-file {path}")
        if wanted.type == "notebook" or (kind == "notebook" and wanted.type is None):
            return self._notebook(path, file, status, wanted)
        return self._file(path, file, status, wanted)

    def _status(self, path: str, file: Path) -> os.stat_result:
        try:
            return file.stat()
        except PermissionError:
            raise ApiError(f"Permission denied: {path}", status=403) from None
        except (OSError, ValueError):
            raise NotFound(f"file or directory {path!r} does not exist") from None

    def _directory(self, path: str, file: Path, status: os.stat_result, wanted: Wanted) -> Model:
        model = model_of(path, file, status)
        if wanted.content:
            inside = None if self.root.follow_symlinks else os.path.realpath(self.root.folder)
            model["format"] = "json"
            try:
                model["content"] = listing(path, file, allow_hidden=self.root.allow_hidden, inside=inside)
            except OSError as error:
                raise atomic.explain(error, path) from None
        return model

    def _notebook(self, path: str, file: Path, status: os.stat_result, wanted: Wanted) -> Model:
        model = model_of(path, file, status, kind="notebook")
        raw = _read(file) if wanted.content else None
        if raw is not None:
            notebook = notebooks.parse(raw, path)
            if message := complaint(notebook):
                model["message"] = message
            self.notary.mark(notebook)
            model["content"], model["format"] = notebook, "json"
        if wanted.hash:
            model["hash"], model["hash_algorithm"] = _hash(file, raw), HASH
        return model

    def _file(self, path: str, file: Path, status: os.stat_result, wanted: Wanted) -> Model:
        model = model_of(path, file, status, kind="file")
        raw = _read(file) if wanted.content else None
        if raw is not None:
            content, form = _decoded(raw, wanted.format, path)
            guess = "text/plain" if form == "text" else "application/octet-stream"
            model["content"], model["format"] = content, form
            model["mimetype"] = model["mimetype"] or guess
        if wanted.hash:
            model["hash"], model["hash_algorithm"] = _hash(file, raw), HASH
        return model

    def hash_of(self, path: str) -> str | None:
        """sha256 of the bytes on disk; None when there is no such file."""
        _, file = self.root.shown(path)
        return _hash(file, None) if file.is_file() else None

    def save(self, path: str, model: dict[str, Any], *, if_match: str | None = None) -> tuple[Model, bool]:
        """Write what the model says; (model without content, whether the file is new)."""
        path, file = self.root.writable(path)
        if not path:
            raise BadRequest("The root cannot be saved to: give a file name")
        is_new = not os.path.lexists(file)
        kind = model.get("type")
        if kind is None and is_new:
            kind = "notebook" if path.endswith(".ipynb") else "file"
        if kind is None:
            raise BadRequest("No file type provided")
        if not isinstance(kind, str):
            raise BadRequest(f"Unhandled contents type: {kind!r}")
        if if_match is not None:
            self.require(path, if_match)
        if model.get("chunk") is not None:
            return self._take_chunk(path, file, kind, model), is_new and model["chunk"] == 1
        message = self._write(path, file, kind, model, is_new=is_new)
        saved = self.get(path, Wanted(type=kind, content=False))
        if message:
            saved["message"] = message
        return saved, is_new

    def require(self, path: str, if_match: str) -> None:
        """PreconditionFailed unless the file is there and has this hash; `*` stands for any."""
        present = self.hash_of(path)
        if present is None or if_match not in {"*", present}:
            raise PreconditionFailed(f"{path} has changed since it was loaded: its hash is {present}")

    def _take_chunk(self, path: str, file: Path, kind: str, model: dict[str, Any]) -> Model:
        if kind != "file":
            raise BadRequest("Only files can be uploaded in chunks")
        if file.is_dir():
            raise BadRequest(f"{path} is a directory, not a file", reason="bad type")
        if file.exists() and not os.access(file, os.W_OK):
            raise Forbidden(f"Permission denied: {path}")
        data = _encoded(model.get("content"), model.get("format"), path)
        return model_of(path, *_with_status(self.uploads.add(file, model["chunk"], data)), kind="file")

    def _write(self, path: str, file: Path, kind: str, model: dict[str, Any], *, is_new: bool) -> str | None:
        if kind == "directory":
            _make_directory(path, file)
            return None
        if kind not in {"file", "notebook"}:
            raise BadRequest(f"Unhandled contents type: {kind!r}")
        if file.is_dir():
            raise BadRequest(f"{path} is a directory, not a {kind}", reason="bad type")
        if kind == "notebook":
            return self._save_notebook(file, model.get("content"), is_new=is_new)
        self._save_file(path, file, model, is_new=is_new)
        return None

    def _save_notebook(self, file: Path, content: object, *, is_new: bool) -> str | None:
        if content is None:
            if not is_new:
                raise BadRequest("No file content provided")
            content = notebooks.new_notebook()
        notebook = notebooks.require_shape(content)
        message = complaint(notebook)
        if self.clear_outputs:
            outputs.clear(notebook)
        self.notary.sign_if_trusted(notebook)
        checkpoints.before_autosave(file, even_first=True)
        atomic.write(file, notebooks.serialise(notebook))
        if not checkpoints.models(file):
            checkpoints.create(file)
        return message

    def _save_file(self, path: str, file: Path, model: dict[str, Any], *, is_new: bool) -> None:
        if model.get("content") is None:
            if not is_new:
                raise BadRequest("No file content provided")
            data = b""
        else:
            data = _encoded(model["content"], model.get("format"), path)
        # Other files only once somebody has asked for a checkpoint: uploads should not litter folders.
        checkpoints.before_autosave(file, even_first=False)
        atomic.write(file, data)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise atomic.explain(error, file.name) from None


def _hash(file: Path, raw: bytes | None) -> str:
    """Of what was read already, so that content and hash agree; else of the file, which may be larger than memory."""
    if raw is not None:
        return hashlib.sha256(raw).hexdigest()
    try:
        with file.open("rb") as inside:
            return hashlib.file_digest(inside, HASH).hexdigest()
    except OSError as error:
        raise atomic.explain(error, file.name) from None


def _decoded(raw: bytes, form: str | None, path: str) -> tuple[str, str]:
    if form != "base64":
        try:
            return raw.decode("utf-8"), "text"
        except UnicodeDecodeError:
            if form == "text":
                raise BadRequest(f"{path} is not UTF-8 encoded", reason="bad format") from None
    return base64.encodebytes(raw).decode("ascii"), "base64"


def _encoded(content: object, form: object, path: str) -> bytes:
    if form not in ("text", "base64"):  # a list could not be looked up in a set
        raise BadRequest("Must specify format of file contents as 'text' or 'base64'")
    if not isinstance(content, str):
        raise BadRequest("The content of a file must be a string")
    if form == "text":
        try:
            return content.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRequest(f"The content of {path} is not valid Unicode") from None
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"The content of {path} is not valid base64") from None


def _with_status(file: Path) -> tuple[Path, os.stat_result]:
    try:
        return file, file.stat()
    except OSError as error:
        raise atomic.explain(error, file.name) from None


def _make_directory(path: str, file: Path) -> None:
    if file.is_dir():
        return
    if os.path.lexists(file):
        raise BadRequest(f"Not a directory: {path}", reason="bad type")
    try:
        file.mkdir()
    except OSError as error:
        raise atomic.explain(error, path) from None


def guess_type(path: str) -> str | None:
    """The MIME type that the name suggests."""
    return "application/x-ipynb+json" if path.endswith(".ipynb") else models.guess_type(path)
