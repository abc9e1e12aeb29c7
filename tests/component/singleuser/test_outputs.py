"""Notebooks without outputs: on demand, downloaded, saved, and as a git filter."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

STREAM = {"output_type": "stream", "name": "stdout", "text": ["secret\n"]}
CELL = {
    "source": ["1"],
    "cell_type": "code",
    "metadata": {"execution": {"iopub.status.busy": "x"}, "tags": ["keep"]},
    "execution_count": 3,
    "outputs": [STREAM],
    "id": "a",
}
NOTEBOOK = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"z": 1, "a": 2}, "cells": [CELL]}
BARE = CELL | {"metadata": {"tags": ["keep"]}, "execution_count": None, "outputs": []}
FILTER = [sys.executable, "-m", "himalia_hub", "clear-outputs"]


def file_of(notebook: dict[str, Any]) -> bytes:
    return (json.dumps(notebook, indent=1) + "\n").encode()


async def test_clearing_on_demand_changes_the_file_and_keeps_the_old_one(server: Any) -> None:
    raw, place = file_of(NOTEBOOK), "api/contents/n.ipynb/clear-outputs"
    (server.root / "n.ipynb").write_bytes(raw)

    stale = await server.ask("POST", place, headers={"If-Match": f'"{"0" * 64}"'})
    status, model, _ = await server.ask("POST", place)

    assert (stale[0], status, model["path"]) == (412, 200, "n.ipynb")
    assert (server.root / "n.ipynb").read_bytes() == file_of(NOTEBOOK | {"cells": [BARE]})
    kept = (await server.ask("GET", "api/contents/n.ipynb/checkpoints"))[1]
    assert [one["id"] for one in kept] == [hashlib.sha256(raw).hexdigest()]
    (server.root / "junk.ipynb").write_text("{")
    assert (await server.ask("POST", "api/contents/junk.ipynb/clear-outputs"))[0] == 400
    assert (await server.ask("POST", "api/contents/none.ipynb/clear-outputs"))[0] == 404


async def test_a_download_without_outputs_leaves_the_file_alone(server: Any) -> None:
    (server.root / "n.ipynb").write_bytes(file_of(NOTEBOOK))

    status, body, headers = await server.ask("GET", "files/n.ipynb?outputs=0")

    assert (status, body) == (200, file_of(NOTEBOOK | {"cells": [BARE]}))
    assert headers["Content-Disposition"] == "attachment; filename*=utf-8''n.ipynb"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert (server.root / "n.ipynb").read_bytes() == file_of(NOTEBOOK)
    assert (await server.ask("GET", "files/n.ipynb?outputs=no"))[0] == 400
    assert (await server.ask("GET", "files/none.ipynb?outputs=0"))[0] == 404


async def test_a_server_told_so_never_writes_outputs(start: Any) -> None:
    for more in ({"args": ("--clear-outputs-on-save",)}, {"environ": {"HIMALIA_CLEAR_OUTPUTS_ON_SAVE": "1"}}):
        server = await start(**more)
        body = {"type": "notebook", "content": json.loads(json.dumps(NOTEBOOK))}

        assert (await server.ask("PUT", "api/contents/n.ipynb", json=body))[0] in {200, 201}

        assert json.loads((server.root / "n.ipynb").read_bytes())["cells"] == [BARE]


def test_git_records_no_outputs_and_the_file_keeps_them(tmp_path: Path) -> None:
    def git(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", "-C", str(tmp_path), *words], capture_output=True, check=False)

    assert git("init", "--quiet").returncode == 0
    git("config", "filter.outputs.clean", " ".join(FILTER))
    git("config", "filter.outputs.required", "true")
    (tmp_path / ".gitattributes").write_text("*.ipynb filter=outputs\n")
    (tmp_path / "n.ipynb").write_bytes(file_of(NOTEBOOK))
    (tmp_path / "bare.ipynb").write_text(json.dumps(NOTEBOOK | {"cells": [BARE]}))
    (tmp_path / "junk.ipynb").write_text("{")

    assert git("add", "n.ipynb", "bare.ipynb").returncode == 0
    refused = git("add", "junk.ipynb")

    assert git("show", ":n.ipynb").stdout == file_of(NOTEBOOK | {"cells": [BARE]})
    assert git("show", ":bare.ipynb").stdout == (tmp_path / "bare.ipynb").read_bytes()
    assert (tmp_path / "n.ipynb").read_bytes() == file_of(NOTEBOOK)
    assert refused.returncode != 0
    assert b"standard input is not JSON" in refused.stderr


def test_files_are_cleared_in_place_and_the_bad_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_bytes(file_of(NOTEBOOK))
    (tmp_path / "old.ipynb").write_text('{"nbformat": 3, "worksheets": []}')

    words = [str(tmp_path / name) for name in ("old.ipynb", "none.ipynb", "n.ipynb")]
    done = subprocess.run([*FILTER, *words], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "old.ipynb is no notebook of format 4" in done.stderr
    assert "none.ipynb' does not exist" in done.stderr
    assert (tmp_path / "n.ipynb").read_bytes() == file_of(NOTEBOOK | {"cells": [BARE]})
