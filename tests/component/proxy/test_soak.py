"""Much of everything, with deaths on both sides: nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path

from component.proxy.parts import RunningProxy, raw_target, read_head, running
from component.proxy.soak import fickle, flat, held, load
from component.proxy.test_proxy_limits import HANDSHAKE, switching
from hubs import free_port
from support import eventually

MB = 1024 * 1024


async def test_descriptors_memory_and_tasks_are_flat_after_deaths_on_both_sides(tmp_path: Path) -> None:
    port = free_port()
    options = ("--metrics-ip", "127.0.0.1", "--metrics-port", str(port), "--log-level", "error")
    async with raw_target(fickle) as target, running(tmp_path, *options) as proxy:
        await proxy.route("/", target.url)
        await held(proxy, port)
        before = await held(proxy, port)
        await load(proxy, requests=1000, tunnels=200)  # what is allocated once is allocated now
        warm = await held(proxy, port)
        outcomes = await load(proxy, requests=4000, tunnels=1000)
        assert outcomes["200"] > 2500
        assert outcomes["tunnel"] > 700
        target.reset_all()
        now = await flat(proxy, port, before, memory=30 * MB)
        assert now.memory - warm.memory < 4 * MB, (warm, now)


async def test_500_tabs_of_200_labs_come_back_to_a_killed_proxy_and_find_the_same_table(
    tmp_path: Path,
) -> None:
    options = ("--routes-file", str(tmp_path / "routes.json"))

    async def lab(proxy: RunningProxy, number: int) -> asyncio.StreamWriter:
        """A tab: it asks until it is let in."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await proxy.connect()
                writer.write(HANDSHAKE.replace(b"/ws", b"/user/u%d/ws" % (number % 200)) % b"")
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    if b" 101 " in await read_head(reader):
                        return writer
                writer.close()
            await asyncio.sleep(0.02)

    async def table(proxy: RunningProxy) -> dict[str, str]:
        routes = json.loads((await proxy.call("GET", "/api/routes"))[1])
        return {path: route["target"] for path, route in routes.items()}

    async with raw_target(switching) as target:
        async with running(tmp_path, *options) as first:
            wanted = {f"/user/u{number}": {"target": target.url} for number in range(200)}
            await first.call("PUT", "/api/routes", wanted)
            tabs = await asyncio.gather(*(lab(first, number) for number in range(500)))
            before = await table(first)
            await eventually((tmp_path / "routes.json").exists)
            assert await first.stop(signal.SIGKILL) == -signal.SIGKILL
        for tab in tabs:
            tab.close()
        async with running(tmp_path, *options, port=first.port, api_port=first.api_port) as second:
            assert await table(second) == before
            async with asyncio.timeout(60):
                tabs = await asyncio.gather(*(lab(second, number) for number in range(500)))
            assert json.loads((await second.call("GET", "/api/tunnels"))[1])["open"] == 500
            for tab in tabs:
                tab.close()
