"""Recorded runs and what a client saves, put together cell by cell. Pure: no clock, no I/O.

Three versions of a cell are compared: what clients were given last, what they save now, what was recorded since. Who
saves the cell as it was given knows nothing of the run, so the recorded outputs stay; who saves anything else has
decided, and wins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from himalia_singleuser.recorder.outputs import Output, canonical

Notebook = dict[str, Any]
ABSENT = "absent"
FIRST_MINOR_WITH_IDS = 5


@dataclass(frozen=True, slots=True)
class Recorded:
    """One run of one cell. `execution` holds the times, as JupyterLab keeps them; empty when not asked for."""

    cell_id: str
    code: str
    outputs: list[Output]
    execution_count: int | None
    execution: dict[str, str]
    is_saved: bool = False
    """Whether a client has saved the notebook since: then the cell's source is the client's alone."""


def find(notebook: Notebook, cell_id: str) -> dict[str, Any] | None:
    """The code cell of that id."""
    for cell in notebook["cells"]:
        if isinstance(cell, dict) and cell.get("id") == cell_id and cell.get("cell_type") == "code":
            return cell
    return None


def state_of(cell: dict[str, Any] | None) -> str:
    """A digest of a cell's outputs; `ABSENT` when there is no such cell."""
    if cell is None:
        return ABSENT
    outputs = cell.get("outputs")
    text = json.dumps(canonical(outputs if isinstance(outputs, list) else []), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def put_in(notebook: Notebook, runs: Sequence[Recorded]) -> None:
    """Show the runs in their cells, in place. A cell that ran but was never saved comes last.

    Notebooks before nbformat 4.5 have no ids: nothing is put into them.
    """
    minor = notebook.get("nbformat_minor")
    if not isinstance(minor, int) or minor < FIRST_MINOR_WITH_IDS:
        return
    for run in runs:
        cell = find(notebook, run.cell_id)
        if cell is None:
            cell = {"cell_type": "code", "id": run.cell_id, "source": run.code, "metadata": {}}
            notebook["cells"].append(cell)
        elif not run.is_saved:
            cell["source"] = run.code
        cell["outputs"], cell["execution_count"] = run.outputs, run.execution_count
        metadata = cell.get("metadata")
        if not isinstance(metadata, dict):
            metadata = cell["metadata"] = {}
        # The kernel's own word on this person's request, as in an open page: all of the cell's outputs are that.
        metadata["trusted"] = True
        if run.execution:
            metadata["execution"] = run.execution


def merge(client: Notebook, runs: Sequence[Recorded], given: Mapping[str, Collection[str]]) -> set[str]:
    """Put into what a client saves the runs it cannot know; the cell ids of the other ones.

    `given` has, by cell id, the states (`state_of`) in which clients got the cell.
    """
    unknown = [run for run in runs if state_of(find(client, run.cell_id)) in given.get(run.cell_id, ())]
    put_in(client, unknown)
    return {run.cell_id for run in runs} - {run.cell_id for run in unknown}
