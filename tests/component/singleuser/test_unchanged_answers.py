"""A GET whose file has not changed is answered from memory; whatever changes, by whomever, is seen at once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OUTPUT = {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<b>1</b>"}}
CELL = {
    "cell_type": "code",
    "execution_count": 1,
    "id": "a",
    "metadata": {},
    "outputs": [OUTPUT],
    "source": "1",
}
NOTEBOOK = {"cells": [CELL], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


async def tagged(server: Any, path: str) -> tuple[dict[str, str], Any]:
    """The condition of who has the answer, and the model."""
    status, model, headers = await server.ask("GET", path)
    assert status == 200
    return {"If-None-Match": headers["ETag"]}, model


async def test_who_has_the_answer_gets_304_until_it_changes(server: Any) -> None:
    (server.root / "d").mkdir()
    (server.root / "d/n.ipynb").write_text(json.dumps(NOTEBOOK))
    for path in ("api/contents/d", "api/contents/d/n.ipynb", "api/contents/d/n.ipynb?content=0&hash=1"):
        known, model = await tagged(server, path)
        for _ in range(2):
            again = await server.ask("GET", path, headers=dict(known))
            assert (again[0], again[1], again[2]["ETag"]) == (304, b"", known["If-None-Match"])
            assert (await server.ask("GET", path))[1] == model


CHANGES: list[Callable[[Path], Any]] = [
    lambda folder: (folder / "new").write_text(""),
    lambda folder: (folder / "a.txt").unlink(),
    lambda folder: (folder / "a.txt").rename(folder / "b.txt"),
    lambda folder: (folder / "a.txt").write_text("more"),
    lambda folder: (folder / "sub/new").write_text(""),
    lambda folder: os.utime(folder / "a.txt", (1, 1)),
    lambda folder: (folder / "a.txt").chmod(0o400),
]


@pytest.mark.parametrize("change", range(len(CHANGES)))
async def test_a_change_behind_the_servers_back_is_in_the_next_listing(server: Any, change: int) -> None:
    folder = server.root / "d"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("x")
    os.utime(folder / "sub", (5, 5))
    known, before = await tagged(server, "api/contents/d")
    assert (await server.ask("GET", "api/contents/d", headers=dict(known)))[0] == 304

    CHANGES[change](folder)

    after = {entry["name"]: entry for entry in (await server.ask("GET", "api/contents/d"))[1]["content"]}
    assert set(after) == {entry.name for entry in folder.iterdir()}
    for name, entry in after.items():
        assert entry["size"] == (None if name == "sub" else (folder / name).stat().st_size)
        assert entry["writable"] == os.access(folder / name, os.W_OK)
    if change != 6:  # as root a file stays writable, so the listing rightly stays the same
        assert list(after.values()) != before["content"]


async def test_a_file_written_over_within_one_tick_of_the_clock_is_read_again(server: Any) -> None:
    file = server.root / "a.txt"
    for text in ("one", "two", "six"):
        file.write_text(text)
        assert (await server.ask("GET", "api/contents/a.txt"))[1]["content"] == text


async def test_an_old_file_written_over_in_place_is_read_again(server: Any) -> None:
    file = server.root / "a.txt"
    file.write_text("one")
    hour_ago = time.time() - 3600
    os.utime(file, (hour_ago, hour_ago))
    known, _ = await tagged(server, "api/contents/a.txt")

    file.write_text("two")
    os.utime(file, (hour_ago, hour_ago))

    status, model, _ = await server.ask("GET", "api/contents/a.txt", headers=known)
    assert (status, model["content"]) == (200, "two")


async def test_trust_given_later_is_seen_in_an_unchanged_notebook(server: Any) -> None:
    (server.root / "n.ipynb").write_text(json.dumps(NOTEBOOK))
    known, model = await tagged(server, "api/contents/n.ipynb")
    assert not model["content"]["cells"][0]["metadata"]["trusted"]

    await server.ask("POST", "api/contents/n.ipynb/trust")

    status, model, _ = await server.ask("GET", "api/contents/n.ipynb", headers=known)
    assert (status, model["content"]["cells"][0]["metadata"]["trusted"]) == (200, True)
