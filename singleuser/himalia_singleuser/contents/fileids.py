"""An id for a file that stays when the file is renamed here: how real-time collaboration names its documents.

Kept in one small JSON file per root, read with the first question. Who renames a file behind the server's back gives it
a new id.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from pathlib import Path

import structlog
from aiohttp import web

from himalia_singleuser.contents import atomic
from himalia_singleuser.errors import ApiError

log = structlog.get_logger(__name__)


class FileIds:
    """Ids by API path, without slashes at the ends. From any thread; reads and writes a file."""

    def __init__(self, data_dir: Path, root: Path) -> None:
        name = hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()[:16]
        self._file = data_dir / "himalia" / f"file-ids-{name}.json"
        self._lock = threading.Lock()
        self._loaded: dict[str, str] | None = None

    def id_of(self, path: str) -> str:
        """The id of a file that is there; a new one if it has none yet."""
        with self._lock:
            ids = self._ids()
            if path not in ids:
                ids[path] = str(uuid.uuid4())
                self._save(ids)
            return ids[path]

    def path_of(self, file_id: str) -> str | None:
        """Where the file of that id was last."""
        with self._lock:
            return next((path for path, known in self._ids().items() if known == file_id), None)

    def moved(self, old: str, new: str) -> None:
        """A file or folder has another name; what it replaces is gone."""
        with self._lock:
            if not self._has(old) and not self._has(new):
                return
            ids = {path: known for path, known in self._ids().items() if not _is_in(path, new)}
            self._save({new + path[len(old) :] if _is_in(path, old) else path: ids[path] for path in ids})

    def deleted(self, gone: str) -> None:
        """A file or folder is no more: another one of its name is another file."""
        with self._lock:
            if self._has(gone):
                self._save({path: known for path, known in self._ids().items() if not _is_in(path, gone)})

    def _has(self, folder: str) -> bool:
        return any(_is_in(path, folder) for path in self._ids())

    def _ids(self) -> dict[str, str]:
        if self._loaded is None:
            try:
                told = json.loads(self._file.read_bytes())
            except (OSError, ValueError):
                told = {}
            pairs = told.items() if isinstance(told, dict) else ()
            self._loaded = {path: known for path, known in pairs if isinstance(known, str)}
        return self._loaded

    def _save(self, ids: dict[str, str]) -> None:
        """A full disk must not undo a rename that has been made: then the ids live as long as this server."""
        self._loaded = ids
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(self._file, json.dumps(ids).encode())
        except (OSError, ApiError) as error:
            log.warning("file_ids.not_written", why=str(error))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


FILE_IDS = web.AppKey("FILE_IDS", FileIds)
