"""A saved notebook whose cells run in a real kernel, and a browser that goes away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from component.singleuser.kernel_parts import Browser, Server, running_server
from himalia_singleuser.kernels.pool import KERNELS
from support import eventually

NOTEBOOK = "work.ipynb"
UNTIL_TOLD = "import pathlib, time\nprint('begun')\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\nprint('ended')"


def cell(cell_id: str, source: str = "", outputs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "id": cell_id,
        "cell_type": "code",
        "source": source,
        "metadata": {},
        "outputs": outputs or [],
        "execution_count": None,
    }


def notebook_of(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}


def text_of(notebook: dict[str, Any], cell_id: str) -> str:
    outputs = next(one["outputs"] for one in notebook["cells"] if one["id"] == cell_id)
    return "".join("".join(one.get("text", one.get("ename", ""))) for one in outputs)


async def save(server: Server, notebook: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"type": "notebook", "format": "json", "content": notebook}
    status, model = await server.ask("PUT", f"api/contents/{NOTEBOOK}", json=body, **more)
    assert status in {200, 201}, model
    return dict(model)


async def load(server: Server, *, content: int = 1) -> dict[str, Any]:
    status, model = await server.ask("GET", f"api/contents/{NOTEBOOK}?content={content}&hash=1")
    assert status == 200, model
    return dict(model)


async def shows(server: Server, cell_id: str, text: str) -> None:
    async def there() -> bool:
        return text_of((await load(server))["content"], cell_id) == text

    await eventually(there, what=f"{cell_id} shows {text!r}")


async def nobody_is_there(server: Server) -> None:
    await eventually(lambda: server.app[KERNELS].connection_count() == 0)


def on_disk(server: Server) -> dict[str, Any]:
    return dict(json.loads((server.root / NOTEBOOK).read_text()))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running_server(tmp_path) as server:
        yield server


async def opened(server: Server) -> Browser:
    """A browser with the saved notebook and its kernel."""
    await save(server, notebook_of(cell("a", UNTIL_TOLD), cell("b", "print('next')"), cell("c", "mine")))
    body = {"path": NOTEBOOK, "name": NOTEBOOK, "type": "notebook", "kernel": {"name": "python3"}}
    status, session = await server.ask("POST", "api/sessions", json=body)
    assert status == 201, session
    return await server.browser(session["kernel"]["id"])


async def leave_in_the_middle(server: Server) -> dict[str, Any]:
    """Run two cells, go away while the first one prints; the model as the browser knew it."""
    browser = await opened(server)
    known = await load(server)
    first = await browser.execute(UNTIL_TOLD, cell="a")
    await browser.execute("print('next')", cell="b")
    await browser.until(lambda got: got.type == "stream" and got.parent.get("msg_id") == first)
    await browser.close()
    await shows(server, "a", "begun\n")
    return known
