"""Notebooks without their outputs: for the API, and as a program that git can use as a filter.

    python -I -m himalia_singleuser.contents.outputs [FILE.ipynb ...]

Without a file it reads standard input and writes standard output. What has no outputs comes out byte for byte, and
the order of keys is never changed, so that version control sees only what a person did.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from himalia_singleuser.contents import atomic
from himalia_singleuser.errors import ApiError, BadRequest

FROM_A_RUN = ("execution", "collapsed", "scrolled")
"""Keys of a cell's metadata that tell of its last run, or of how its output was shown."""


def clear(notebook: dict[str, Any]) -> bool:
    """Remove outputs, counts and run times in place; whether there were any. The notebook is nbformat 4."""
    changed = False
    for cell in notebook["cells"]:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        metadata = cell.get("metadata")
        if not isinstance(metadata, dict):
            metadata = {}
        for key in FROM_A_RUN:
            changed = metadata.pop(key, None) is not None or changed
        changed = changed or bool(cell.get("outputs")) or cell.get("execution_count") is not None
        cell["outputs"], cell["execution_count"] = [], None
    return changed


def cleared(raw: bytes, name: str) -> bytes:
    """The bytes of a notebook file without outputs; BadRequest for what is no notebook of format 4."""
    if not raw.strip():
        return raw
    try:
        notebook = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{name} is not JSON, so no notebook: {error}") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise BadRequest(f"{name} is no notebook of format 4: open and save it in JupyterLab first")
    if not clear(notebook):
        return raw
    text = json.dumps(notebook, ensure_ascii=False, indent=1, separators=(",", ": "))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 when something was no notebook; the others are cleared all the same."""
    parser = argparse.ArgumentParser(
        prog="himalia clear-outputs",
        description="Remove the outputs of notebooks, in place or as a git filter.",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="without any: standard input to standard output"
    )
    files = parser.parse_args(argv).files
    if not files:
        return _attempt(_filter)
    return max(_attempt(partial(_in_place, Path(file))) for file in files)


def _attempt(work: Callable[[], None]) -> int:
    try:
        work()
    except ApiError as error:
        sys.stderr.write(f"himalia clear-outputs: {error}\n")
        return 1
    return 0


def _filter() -> None:
    sys.stdout.buffer.write(cleared(sys.stdin.buffer.read(), "standard input"))


def _in_place(file: Path) -> None:
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise BadRequest(f"{str(file)!r} does not exist") from None
    except OSError as error:
        raise atomic.explain(error, str(file)) from None
    if (data := cleared(raw, str(file))) != raw:
        atomic.write(file, data)


if __name__ == "__main__":
    sys.exit(main())
