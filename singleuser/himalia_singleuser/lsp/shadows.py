"""Open documents as files below `.virtual_documents`, for language servers that read files only.

A notebook's code is a document that is on no disk. JupyterLab names it below `virtualDocumentsUri`; jupyter-lsp writes
it there for servers whose description says `requires_documents_on_disk`, and so does this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

FOLDER = ".virtual_documents"
MOST_DOCUMENTS = 1000


class Shadows:
    """One language server's. Blocking, on small files."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._texts: dict[Path, str] = {}

    def note(self, message: bytes) -> None:
        """What a page tells the server, before the server is told. OSError when it cannot be written."""
        try:
            told = json.loads(message)
            method, params = told["method"], told["params"]
            file = self._file_of(params["textDocument"]["uri"])
            if file is None:
                return
            if method == "textDocument/didOpen":
                self._write(file, params["textDocument"]["text"])
            elif method == "textDocument/didChange" and file in self._texts:
                self._write(file, changed(self._texts[file], params["contentChanges"]))
            elif method == "textDocument/didSave" and "text" in params:
                self._write(file, params["text"])
            elif method == "textDocument/didClose":
                self._remove(file)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # no document in it, or none that makes sense: the server says what it thinks of that

    def clear(self) -> None:
        """Remove what was written."""
        for file in list(self._texts):
            self._remove(file)
        with suppress(OSError):
            self._folder.rmdir()

    def _file_of(self, uri: str) -> Path | None:
        """None for what is not strictly below the folder, links followed."""
        parts = urlsplit(uri)
        if parts.scheme != "file" or parts.netloc:
            return None
        folder = Path(os.path.realpath(self._folder))
        file = Path(os.path.realpath(unquote(parts.path)))
        return file if folder in file.parents else None

    def _write(self, file: Path, text: str) -> None:
        if file not in self._texts and len(self._texts) >= MOST_DOCUMENTS:
            return
        raw = text.encode("utf-8", "replace")
        self._texts[file] = text
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)

    def _remove(self, file: Path) -> None:
        if self._texts.pop(file, None) is None:
            return
        with suppress(OSError):
            file.unlink()
        folder = Path(os.path.realpath(self._folder))
        for parent in file.parents:
            if folder not in parent.parents:
                return
            with suppress(OSError):  # another document is in it
                parent.rmdir()


def changed(text: str, changes: list[Mapping[str, Any]]) -> str:
    """The text after the changes of a didChange, one after the other: a range of it, or all."""
    for change in changes:
        if (place := change.get("range")) is None:
            text = change["text"]
            continue
        begin, end = _offset(text, place["start"]), _offset(text, place["end"])
        text = text[:begin] + change["text"] + text[max(begin, end) :]
    return text


def _offset(text: str, position: Mapping[str, int]) -> int:
    """The index of a position of the protocol: a line, and UTF-16 code units in it; past its end is its end."""
    at = 0
    for _ in range(position["line"]):
        found = text.find("\n", at)
        if found < 0:
            return len(text)
        at = found + 1
    end = text.find("\n", at)
    line = text[at : len(text) if end < 0 else end]
    units = line.encode("utf-16-le", "surrogatepass")[: 2 * max(0, position["character"])]
    return at + len(units.decode("utf-16-le", "ignore"))
