"""Proxies for tests that need no special options: one process for all of them, emptied after each."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from component.proxy import chp
from component.proxy.parts import OURS, RunningProxy, answers, command_line
from hubs import free_port
from support import eventually

Started = tuple["subprocess.Popen[bytes]", int, int, Path]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Started]]:
    """Starts a proxy of a kind when it is first asked for."""
    known: dict[str, Started] = {}

    def start(kind: str) -> Started:
        if kind not in known or known[kind][0].poll() is not None:
            port, api_port = free_port(), free_port()
            argv, env = command_line(OURS if kind == "ours" else chp.command(), port, api_port)
            log = tmp_path_factory.mktemp(kind) / "log"
            with log.open("wb") as out:
                process = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
            known[kind] = process, port, api_port, log
        return known[kind]

    yield start
    for process, *_ in known.values():
        process.terminate()
        process.wait(timeout=30)


@asynccontextmanager
async def borrowed(process: Started) -> AsyncIterator[RunningProxy]:
    """A shared proxy, up at first and without routes at last."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        proxy = RunningProxy(*process, session)
        await eventually(lambda: answers(proxy), what=f"proxy up: {proxy.log.read_text()}")
        yield proxy
        assert process[0].poll() is None, proxy.log.read_text()
        for path in json.loads((await proxy.call("GET", "/api/routes"))[1]):
            await proxy.call("DELETE", f"/api/routes{quote(path)}")
        assert "Traceback" not in proxy.log.read_text()
        if "himalia_proxy" in str(process[0].args):
            await session.close()
            what = "whatever a test did, no connection of the proxy stays open"
            await eventually(lambda: proxy.sockets() == 0, what=what)


@pytest.fixture
async def proxy(started: Callable[[str], Started]) -> AsyncIterator[RunningProxy]:
    """Ours."""
    async with borrowed(started("ours")) as ready:
        yield ready


@pytest.fixture(params=["ours", "official"])
async def either(
    request: pytest.FixtureRequest, started: Callable[[str], Started]
) -> AsyncIterator[RunningProxy]:
    """Ours and the official one in turn, for what must be equal."""
    async with borrowed(started(request.param)) as ready:
        yield ready
