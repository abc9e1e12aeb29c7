"""Does a notebook keep the rules of nbformat 4? Written out by hand: a JSON-schema engine costs a second.

It says the first thing that is wrong, for the `message` of a model; nothing is refused because of it.
"""

from __future__ import annotations

import re
from typing import Any

from himalia_singleuser.contents.notebooks import Notebook

CELL_ID = re.compile(r"[a-zA-Z0-9-_]{1,64}")
OUTPUT_KEYS: dict[str, dict[str, type]] = {
    "stream": {"name": str, "text": str},
    "display_data": {"data": dict, "metadata": dict},
    "execute_result": {"data": dict, "metadata": dict},
    "error": {"ename": str, "evalue": str, "traceback": list},
}


def complaint(notebook: Notebook) -> str | None:
    """One sentence with the place, or None when all is well."""
    problem = _notebook_problem(notebook)
    return f"Notebook validation failed: {problem}" if problem else None


def _notebook_problem(notebook: Notebook) -> str | None:
    minor = notebook.get("nbformat_minor")
    if not isinstance(minor, int) or isinstance(minor, bool) or minor < 0:
        return f"nbformat_minor is {minor!r}, it must be a number"
    if not isinstance(notebook.get("metadata"), dict):
        return "metadata must be an object"
    seen: set[str] = set()
    for number, cell in enumerate(notebook.get("cells", [])):
        if problem := _cell_problem(cell, minor):
            return f"cell {number}: {problem}"
        if minor >= 5:
            if cell["id"] in seen:
                return f"cell {number}: the id {cell['id']!r} is used twice"
            seen.add(cell["id"])
    return None


def _cell_problem(cell: Any, minor: int) -> str | None:
    if not isinstance(cell, dict):
        return "it must be an object"
    kind = cell.get("cell_type")
    if not isinstance(kind, str) or kind not in {"code", "markdown", "raw"}:
        return f"cell_type is {kind!r}, it must be code, markdown or raw"
    if minor >= 5 and not (isinstance(cell.get("id"), str) and CELL_ID.fullmatch(cell["id"])):
        return f"'id' is {cell.get('id')!r}, it must be 1 to 64 letters, digits, - or _"
    if not isinstance(cell.get("metadata"), dict):
        return "metadata must be an object"
    if not isinstance(cell.get("source"), str):
        return "source must be text"
    if kind != "code":
        return "outputs are only for code cells" if "outputs" in cell else None
    count = cell.get("execution_count")
    if "execution_count" not in cell or not (count is None or (isinstance(count, int) and count >= 0)):
        return f"execution_count is {count!r}, it must be a number or null"
    if not isinstance(cell.get("outputs"), list):
        return "outputs must be a list"
    for number, output in enumerate(cell["outputs"]):
        if problem := _output_problem(output):
            return f"output {number}: {problem}"
    return None


def _output_problem(output: Any) -> str | None:
    if not isinstance(output, dict):
        return "it must be an object"
    kind = output.get("output_type")
    wanted = OUTPUT_KEYS.get(kind) if isinstance(kind, str) else None
    if wanted is None:
        return f"output_type is {kind!r}, it must be one of {', '.join(OUTPUT_KEYS)}"
    for key, form in wanted.items():
        if not isinstance(output.get(key), form):
            return f"{key} of {kind} must be of type {form.__name__}"
    if kind == "execute_result" and "execution_count" not in output:
        return "execute_result needs an execution_count"
    return None
