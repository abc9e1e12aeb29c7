"""Metrics, under the names that configurable-http-proxy gave them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

import official
from component.proxy.parts import OURS, RunningProxy, answering, raw_target, read_head, running
from hubs import free_port


async def scraped(proxy: RunningProxy, port: int) -> dict[str, float]:
    """Each sample by its name and labels."""
    async with proxy.session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        text = await answer.text()
    return {
        name: float(value) for name, value in re.findall(r"^([^#\s]+(?:{.*})?) (\S+)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("kind", ["ours", "official"])
async def test_what_passes_is_counted_under_the_official_names(tmp_path: Path, kind: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"Upgrade: websocket" in await read_head(reader):
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )
            await reader.read()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    port, command = free_port(), OURS if kind == "ours" else [official.proxy()]
    options = ("--metrics-ip", "127.0.0.1", "--metrics-port", str(port))
    async with raw_target(talk) as target, running(tmp_path, *options, command=command) as proxy:
        await proxy.route("/a", target.url)
        await proxy.route("/gone", target.url)
        await proxy.call("DELETE", "/api/routes/gone")
        await proxy.call("GET", "/api/routes")
        for path in ("/a", "/a", "/none"):
            async with proxy.session.get(proxy.url + path) as answer:
                await answer.read()
        reader, writer = await proxy.connect()
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await read_head(reader)
        found = await scraped(proxy, port)
        writer.close()

    assert (found["api_route_add"], found["api_route_delete"], found["api_route_get"]) == (2, 1, 1)
    assert (found["requests_web"], found["requests_ws"]) == (3, 1)
    assert (found['requests_proxy{status="200"}'], found['requests_proxy{status="404"}']) == (2, 1)
    assert (found['requests_api{status="201"}'], found['requests_api{status="204"}']) == (2, 1)
    assert found["find_target_for_req_count"] == 4
    assert "last_activity_updating_count" in found
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= set(found)


async def test_now_is_told_in_gauges(tmp_path: Path) -> None:
    port = free_port()
    options = ("--metrics-ip", "127.0.0.1", "--metrics-port", str(port))
    async with raw_target(answering()) as target, running(tmp_path, *options) as proxy:
        await proxy.route("/", target.url)
        async with proxy.session.get(f"{proxy.url}/"):
            pass
        found = await scraped(proxy, port)
        async with proxy.session.get(f"http://127.0.0.1:{port}/other") as answer:
            assert answer.status == 404
    assert found["himalia_proxy_routes"] == 1
    assert found["himalia_proxy_target_connections"] == 1
    assert found["himalia_proxy_tunnels"] == 0


async def test_metrics_can_be_read_from_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    async with running(tmp_path, "--metrics-socket", str(path)):
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://h/metrics") as answer,
        ):
            assert "himalia_proxy_routes 0" in await answer.text()
