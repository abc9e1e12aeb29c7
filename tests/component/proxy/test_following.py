"""A proxy that follows another: adding one is only starting it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from component.proxy.parts import RunningProxy, answering, raw_target, running
from component.proxy.test_proxy_limits import switching, tunnelled
from support import eventually


async def serves(proxy: RunningProxy, path: str) -> bool:
    async with proxy.session.get(proxy.url + path) as answer:
        return answer.status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_follower_serves_every_acknowledged_route_at_once(tmp_path: Path, workers: str) -> None:
    async with raw_target(answering()) as target, running(tmp_path) as leader:
        await leader.route("/before", target.url, user="ada")
        async with running(tmp_path, "--follow", leader.api, "--workers", workers) as follower:
            await eventually(lambda: "proxy.listening" in follower.log.read_text(), within_s=30)
            assert await serves(follower, "/before")
            for number in range(10):
                await leader.route(f"/{number}", target.url)
                assert await serves(follower, f"/{number}")
            await leader.call("DELETE", "/api/routes/before")
            assert not await serves(follower, "/before")
            status, why = await follower.call("DELETE", "/api/routes/1")
            assert status == 409
            assert leader.api in why


async def test_what_is_used_through_a_follower_is_known_to_its_leader(tmp_path: Path) -> None:
    async with raw_target(switching) as target, running(tmp_path) as leader:
        await leader.route("/", target.url, user="ada")
        async with running(tmp_path, "--follow", leader.api) as follower:
            reader, writer = await tunnelled(follower)

            async def last() -> str:
                return json.loads((await leader.call("GET", "/api/routes"))[1])["/"]["last_activity"]

            before = await last()

            async def moved() -> bool:
                writer.write(
                    b"a word"
                )  # again and again: the clock may have stood still since, or been put back
                await reader.readexactly(6)
                return await last() > before

            await eventually(moved)
            assert json.loads((await leader.call("DELETE", "/api/tunnels?user=ada"))[1]) == {"cut": 1}
            writer.close()


async def test_a_follower_serves_on_without_its_leader_and_comes_back_to_it(tmp_path: Path) -> None:
    async with raw_target(answering()) as target, running(tmp_path) as leader:
        await leader.route("/a", target.url)
        async with running(tmp_path, "--follow", leader.api) as follower:
            await eventually(lambda: "follow.joined" in follower.log.read_text())
            await leader.stop(signal.SIGKILL)
            await eventually(lambda: "follow.lost" in follower.log.read_text())
            assert await serves(follower, "/a")
            async with running(tmp_path, port=leader.port, api_port=leader.api_port) as second:
                await second.route("/b", target.url)

                async def as_the_leader_says() -> bool:
                    return await serves(follower, "/b") and not await serves(follower, "/a")

                await eventually(as_the_leader_says)


async def test_without_the_token_nobody_follows(tmp_path: Path) -> None:
    async with running(tmp_path) as leader:
        head = b"GET /api/follow HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: himalia-proxy-table\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", leader.api_port)
        writer.write(head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        writer.close()
        assert (await leader.call("GET", "/api/follow"))[0] == 426
        async with running(tmp_path, "--follow", leader.api, token="wrong") as follower:
            await eventually(lambda: "403 Forbidden" in follower.log.read_text())
