"""A server that loads its code is found as soon as it listens, not at the next look."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import quote

import pytest

from himalia_hub.servers.world import Probe


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.mark.parametrize("kind", ["unix", "port"])
async def test_a_server_is_found_as_soon_as_it_listens(probe: Probe, tmp_path: Path, kind: str) -> None:
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as listener:
        path = tmp_path / "sock"
        listener.bind(str(path) if kind == "unix" else ("127.0.0.1", 0))
        here = quote(str(path), safe="") if kind == "unix" else f"127.0.0.1:{listener.getsockname()[1]}"
        url = f"http{'+unix' if kind == 'unix' else ''}://{here}"
        waiting = asyncio.create_task(probe.listens_soon(url, within_s=600))
        refused, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not refused
        listener.listen()
        await asyncio.wait_for(waiting, 30)


async def test_where_connections_are_taken_already_only_time_helps(probe: Probe, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        began = asyncio.get_running_loop().time()
        await probe.listens_soon(f"http+unix://{quote(str(tmp_path / 'sock'), safe='')}", within_s=0.1)
        assert asyncio.get_running_loop().time() - began >= 0.1


async def test_a_socket_that_never_comes_is_waited_for_no_longer_than_said(
    probe: Probe, tmp_path: Path
) -> None:
    await probe.listens_soon(f"http+unix://{quote(str(tmp_path / 'none'), safe='')}", within_s=0.05)
