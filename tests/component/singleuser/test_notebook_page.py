"""Jupyter Notebook 7's pages, served from its wheel beside JupyterLab's."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def config_of(page: bytes) -> dict[str, Any]:
    """The page's own configuration."""
    found = re.search(
        rb'<script id="jupyter-config-data" type="application/json">(.*?)</script>', page, re.DOTALL
    )
    assert found, page[:2000]
    return json.loads(found[1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("tree", "tree"),
        ("notebooks/new.ipynb", "notebooks"),
        ("edit/a.txt", "edit"),
        ("terminals/1", "terminals"),
    ],
)
async def test_every_page_knows_its_kind(server: Any, path: str, kind: str) -> None:
    status, page, _ = await server.ask("GET", path)
    assert status == 200
    assert config_of(page)["notebookPage"] == kind


async def test_all_scripts_of_a_page_are_there_and_kept_for_ever(server: Any) -> None:
    _, page, _ = await server.ask("GET", "tree")
    scripts = re.findall(rb'<script[^>]* src="([^"]+)"', page)
    assert scripts
    for script in scripts:
        status, _, headers = await server.bare("GET", script.decode().lstrip("/"))
        assert status == 200, script
        assert "immutable" in headers["Cache-Control"]


async def test_a_folder_a_notebook_and_a_file_lead_to_the_page_that_shows_them(server: Any) -> None:
    (server.root / "folder").mkdir()
    (server.root / "a.txt").write_text("x")
    (server.root / "a b.ipynb").write_text(json.dumps(NOTEBOOK))
    for asked, shown in [
        ("tree/a.txt", "/files/a.txt"),
        ("tree/a%20b.ipynb?x=1", "/notebooks/a%20b.ipynb?x=1"),
        ("notebooks/folder", "/tree/folder"),
    ]:
        status, _, headers = await server.ask("GET", asked)
        assert (status, headers["Location"]) == (302, shown)
    assert (await server.ask("GET", "tree/folder"))[0] == 200
    assert (await server.ask("GET", "tree/missing"))[0] == 404


async def test_a_server_told_so_opens_on_the_notebook(start: Any) -> None:
    server = await start(args=("--notebook",))
    status, _, headers = await server.ask("GET", "")
    assert (status, headers["Location"]) == (302, "/tree")


async def test_strangers_are_led_to_the_login(server: Any) -> None:
    status, _, headers = await server.bare("GET", "tree/a")
    assert (status, headers["Location"]) == (302, "/login?next=/tree/a")
