"""The proxy that a hub started is replaced when its settings or its release change, and nobody notices."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from component.proxy.parts import RunningProxy, part, raw_target, until_closed
from component.proxy.test_handover import Visitors, talk
from component.proxy.test_proxy_limits import tunnelled
from himalia_hub.errors import Unavailable
from himalia_hub.routes import launch
from himalia_hub.routes.launch import ProxyProcess
from himalia_hub.settings import HubSettings
from hubs import free_port

Start = Callable[..., ProxyProcess]
TOKEN = "a-token-of-the-hub"


def alive(pid: int) -> bool:
    """Whether it runs; what this process has not yet reaped does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Start]:
    """Makes a hub's side of the proxy, on one data folder and one port; at the end all processes are killed."""
    port, made, pids = free_port(), [], set()

    def start(**section: Any) -> ProxyProcess:
        proxy = {"port": port, "api_port": section.pop("api_port", free_port()), "auth_token": TOKEN}
        settings = HubSettings.model_validate({"data_dir": tmp_path, "proxy": proxy | section})
        made.append(ProxyProcess(settings, "http://127.0.0.1:1"))
        return made[-1]

    yield start
    for one in made:
        pids.add(one._pid)
        one.close()
    for pid in pids - {0}:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@asynccontextmanager
async def seen(process: ProxyProcess, log: Path) -> AsyncIterator[RunningProxy]:
    """The proxy as its visitors see it."""
    section = process._settings.proxy
    async with aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as session:
        yield RunningProxy(None, section.port, section.api_port, log, session)


async def put(proxy: RunningProxy, target: str) -> None:
    status, _ = await proxy.call("POST", "/api/routes/", {"target": target}, token=TOKEN)
    assert status == 201


@pytest.mark.parametrize("what", ["settings", "release"])
async def test_a_changed_proxy_is_replaced_while_people_work_through_it(
    hub: Start, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api_port = free_port()
    first = hub(api_port=api_port)
    assert await first.start() == "started"
    async with raw_target(talk) as target, seen(first, tmp_path / "log") as proxy:
        await put(proxy, target.url)
        reader, writer = await tunnelled(proxy)
        visitors = Visitors(proxy)
        await visitors.served(20)
        first.close()  # the hub ends and leaves its proxy
        if what == "release":
            monkeypatch.setattr(launch, "version", lambda _: "99.0")
        args = ["--keep-alive-timeout", "4000"] if what == "settings" else []
        second = hub(api_port=api_port, args=args)
        assert await second.start() == "replaced"
        assert second._pid != first._pid
        await visitors.served(20)
        await visitors.leave()
        assert visitors.outcomes.keys() == {"ok"}
        writer.write(b"the same tunnel")
        assert await part(reader, 15) == b"the same tunnel"
        second.close()
        third = hub(api_port=api_port, args=args)
        assert await third.start() == "adopted"
        await third.stop()  # with whoever still holds tunnels
        assert await until_closed(reader) == b""
        assert not alive(second._pid)
        writer.close()


async def test_settings_that_do_not_work_leave_the_running_proxy_as_it_was(
    hub: Start, tmp_path: Path
) -> None:
    api_port = free_port()
    first = hub(api_port=api_port)
    await first.start()
    async with raw_target(talk) as target, seen(first, tmp_path / "log") as proxy:
        await put(proxy, target.url)
        with pytest.raises(Unavailable, match="--workers must be 1 or more"):
            await hub(api_port=api_port, args=["--workers", "0"]).start()
        assert (await proxy.say(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"ok")
        assert await hub(api_port=api_port).start() == "adopted"


async def test_a_proxy_that_answers_nobody_is_ended_and_another_started(
    hub: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "END_PATIENCE_S", 0.5)
    api_port = free_port()
    first = hub(api_port=api_port)
    await first.start()
    os.kill(first._pid, signal.SIGSTOP)

    assert await hub(api_port=api_port).start() == "started"

    assert json.loads((tmp_path / "proxy.json").read_text())["pid"] != first._pid


async def test_another_address_at_the_same_port_takes_a_stop(hub: Start) -> None:
    api_port = free_port()
    await hub(api_port=api_port).start()
    assert await hub(api_port=api_port, ip="127.0.0.2").start() == "started"
    assert await hub(api_port=api_port, ip="127.0.0.2", args=["--api-ip=127.0.0.1"]).start() == "replaced"
