"""API paths to file paths, and back: nothing outside the root can be named.

An API path has no leading slash and uses `/` on every system; the root itself is "".
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from himalia_singleuser.errors import BadRequest, Forbidden, NotFound


@dataclass(frozen=True, slots=True)
class Root:
    """The folder that is shown. `follow_symlinks` lets links inside it lead outside."""

    folder: Path
    allow_hidden: bool = False
    follow_symlinks: bool = False

    def clean(self, path: str) -> str:
        """The path without empty and `.` parts; NotFound for `..` and what no file can be called."""
        parts = [part for part in path.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise NotFound(f"{path} is outside root contents directory")
        if "\0" in path:
            raise NotFound("A path cannot hold a NUL byte")
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            raise NotFound("A path must be valid Unicode") from None
        return "/".join(parts)

    def locate(self, path: str) -> Path:
        """The file of a cleaned path, there or not; NotFound if a link on the way leads outside."""
        file = self.folder / path if path else self.folder
        if not self.follow_symlinks:
            try:
                real = os.path.realpath(file)
            except (OSError, ValueError):
                raise NotFound(f"{path} cannot be resolved") from None
            if not is_below(real, os.path.realpath(self.folder)):
                raise NotFound(f"{path} is outside root contents directory")
        _can_be_asked_for(path, file)
        return file

    def shown(self, path: str) -> tuple[str, Path]:
        """Cleaned path and file for reading: what is hidden is not found."""
        path = self.clean(path)
        if self.is_hidden(path):
            raise NotFound(f"file or directory {path!r} does not exist")
        return path, self.locate(path)

    def writable(self, path: str) -> tuple[str, Path]:
        """Cleaned path and file for writing: a hidden name is refused aloud."""
        path = self.clean(path)
        if self.is_hidden(path):
            raise BadRequest(f"Cannot write to hidden path {path!r}: it has a part that begins with a dot")
        return path, self.locate(path)

    def is_hidden(self, path: str) -> bool:
        """Whether any part begins with a dot and the settings hide such."""
        return not self.allow_hidden and any(part.startswith(".") for part in path.split("/"))

    def api_path(self, file: str | os.PathLike[str]) -> str | None:
        """The API path of a file path, None when it is not below the root."""
        root = os.path.realpath(self.folder)
        real = os.path.realpath(os.path.join(root, file))
        if not is_below(real, root):
            return None
        relative = os.path.relpath(real, root)
        return "" if relative == "." else relative


def _can_be_asked_for(path: str, file: Path) -> None:
    """Refuse here what would make every later question (is it a folder? does it exist?) raise an OSError."""
    try:
        file.stat()
    except PermissionError:
        raise Forbidden(f"Permission denied: {path[:200]}") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BadRequest(f"The path {path[:60]!r}... is longer than this file system allows") from None


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or in it. Both real; compared part by part, `/ab` is not below `/a`."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def parent_of(path: str) -> str:
    """The API path of the folder that holds it."""
    return path.rpartition("/")[0]


def join(folder: str, name: str) -> str:
    """A name inside a folder."""
    return f"{folder}/{name}" if folder else name
