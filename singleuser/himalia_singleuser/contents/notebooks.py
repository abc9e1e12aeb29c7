"""Notebook files (nbformat 4) to and from JSON, without importing nbformat.

On disk long texts are lists of lines, in the API they are strings; older formats are converted by nbformat
in a process of its own, because importing it costs a second and thirty megabytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from himalia_singleuser.errors import BadRequest

Notebook = dict[str, Any]

UPGRADE_LIMIT_S = 60
UPGRADE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import nbformat
from nbformat.v4.rwbase import strip_transient
notebook = nbformat.reads(sys.stdin.read(), as_version=4)
sys.stdout.write(json.dumps(strip_transient(notebook)))
"""


def new_notebook() -> Notebook:
    """An empty one."""
    return {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def parse(raw: bytes, path: str) -> Notebook:
    """The notebook of a file, always as nbformat 4 with joined lines; BadRequest for anything else."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        start = raw[:60].decode("utf-8", "replace")
        raise BadRequest(
            f"Unreadable Notebook: {path} NotJSONError({f'{error}: {start!r}'!r})", reason="bad format"
        ) from None
    major = value.get("nbformat") if isinstance(value, dict) else None
    if not isinstance(major, int) or isinstance(major, bool) or major > 4 or major < 1:
        raise BadRequest(f"Unreadable Notebook: {path} has no nbformat from 1 to 4: {major!r}")
    if major < 4:
        value = _upgrade(raw, path)
    elif not isinstance(value.get("cells"), list):
        raise BadRequest(f"Unreadable Notebook: {path} has no list of cells")
    value.setdefault("metadata", {})
    join_lines(value)
    strip_transient(value)
    return dict(value)


def _upgrade(raw: bytes, path: str) -> Any:
    argv = [sys.executable, "-I", "-c", UPGRADE]
    try:
        done = subprocess.run(argv, input=raw, capture_output=True, timeout=UPGRADE_LIMIT_S, check=True)
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        raise BadRequest(
            f"Unreadable Notebook: {path} is of an old format that cannot be converted"
        ) from None


def serialise(notebook: Notebook) -> bytes:
    """The bytes on disk: as nbformat writes them, so that version control sees no difference."""
    copy: Notebook = json.loads(json.dumps(notebook))
    strip_transient(copy)
    _split_lines(copy)
    text = json.dumps(copy, ensure_ascii=False, indent=1, sort_keys=True, separators=(",", ": "))
    # A kernel may print half a surrogate pair: as an escape it is JSON, as bytes nobody else could read the file.
    return (text + "\n").encode("utf-8", "backslashreplace")


def require_shape(content: object) -> Notebook:
    """What must hold for a notebook to be written at all; BadRequest names the first thing that does not."""
    if not isinstance(content, dict):
        raise BadRequest("The content of a notebook must be a JSON object")
    if content.get("nbformat") != 4:
        raise BadRequest(f"nbformat is {content.get('nbformat')!r}: notebooks are saved in format 4")
    cells = content.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise BadRequest("cells must be a list of objects")
    if not isinstance(content.setdefault("metadata", {}), dict):
        raise BadRequest("metadata must be an object")
    return content


def cells_of(notebook: Notebook) -> Iterator[dict[str, Any]]:
    """The cells that are objects: a file may hold anything."""
    return (cell for cell in notebook["cells"] if isinstance(cell, dict))


def outputs_of(cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The outputs of a code cell that are objects."""
    outputs = cell.get("outputs") if cell.get("cell_type") == "code" else None
    return (output for output in (outputs if isinstance(outputs, list) else []) if isinstance(output, dict))


def strip_transient(notebook: Notebook) -> None:
    """Remove what is never stored in a file."""
    metadata = notebook.get("metadata")
    if isinstance(metadata, dict):
        for key in ("orig_nbformat", "orig_nbformat_minor", "signature"):
            metadata.pop(key, None)
    for cell in cells_of(notebook):
        if isinstance(cell.get("metadata"), dict):
            cell["metadata"].pop("trusted", None)


def _bundles(cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    attachments = cell.get("attachments")
    if isinstance(attachments, dict):
        yield from (bundle for bundle in attachments.values() if isinstance(bundle, dict))
    for output in outputs_of(cell):
        data = output.get("data")
        if output.get("output_type") in {"execute_result", "display_data"} and isinstance(data, dict):
            yield data


def join_lines(notebook: Notebook) -> None:
    """Lists of lines become strings."""
    for cell in cells_of(notebook):
        _join(cell, "source")
        for bundle in _bundles(cell):
            for mime in bundle:
                if mime != "application/json" and not mime.endswith("+json"):
                    _join(bundle, mime)
        for output in outputs_of(cell):
            if output.get("output_type") == "stream":
                _join(output, "text")


def _join(holder: dict[str, Any], key: str) -> None:
    value = holder.get(key)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        holder[key] = "".join(value)


def _split_lines(notebook: Notebook) -> None:
    for cell in cells_of(notebook):
        _split(cell, "source")
        for bundle in _bundles(cell):
            for mime in bundle:
                if mime.startswith("text/") or mime in {"application/javascript", "image/svg+xml"}:
                    _split(bundle, mime)
        for output in outputs_of(cell):
            if output.get("output_type") == "stream":
                _split(output, "text")


def _split(holder: dict[str, Any], key: str) -> None:
    if isinstance(holder.get(key), str):
        holder[key] = holder[key].splitlines(keepends=True)
