"""A new proxy takes over from a running one: no refused connection, no lost route, no lost tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
from collections import Counter
from pathlib import Path

import pytest

from component.proxy.parts import RunningProxy, part, raw_target, read_head, running, until_closed
from component.proxy.test_proxy_limits import SWITCH, tunnelled
from support import eventually

GET = b"GET /user/ada HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Agrees to upgrades and says everything again; answers other requests."""
    while True:
        if b"Upgrade" in await read_head(reader):
            writer.write(SWITCH)
            while data := await reader.read(65536):
                writer.write(data)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Visitors:
    """Eight people who ask again and again; `outcomes`: what became of their requests."""

    def __init__(self, proxy: RunningProxy) -> None:
        self.outcomes: Counter[str] = Counter()
        self._proxy = proxy
        self._over = asyncio.Event()
        self._people = [asyncio.create_task(self._one()) for _ in range(8)]

    async def _one(self) -> None:
        while not self._over.is_set():
            try:
                answer = await self._proxy.say(GET)
                self.outcomes["ok" if answer.endswith(b"\r\n\r\nok") else repr(answer[:100])] += 1
            except OSError as error:
                self.outcomes[type(error).__name__] += 1

    async def served(self, count: int) -> None:
        """Until so many more were."""
        before = self.outcomes["ok"]
        await eventually(lambda: self.outcomes["ok"] > before + count)

    async def leave(self) -> None:
        """They ask no more."""
        self._over.set()
        await asyncio.gather(*self._people)


def says(proxy: RunningProxy, what: str) -> bool:
    return what in proxy.log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_successor_takes_over_and_nobody_is_refused(tmp_path: Path, workers: str) -> None:
    options = ("--handover-socket", str(tmp_path / "h"), "--workers", workers)
    options += ("--routes-file", str(tmp_path / "routes.json"), "--pid-file", str(tmp_path / "pid"))
    async with raw_target(talk) as target, running(tmp_path, *options) as old:
        await old.route("/user/ada", target.url, user="ada")
        await old.route("/", target.url, user="bob")
        assert stat.S_IMODE((tmp_path / "h").stat().st_mode) == 0o600
        table = json.loads((await old.call("GET", "/api/routes"))[1])
        await eventually(lambda: says(old, "proxy.listening"), within_s=30)
        reader, writer = await tunnelled(old)
        other_reader, other_writer = await tunnelled(old)
        visitors = Visitors(old)
        await visitors.served(20)
        async with running(tmp_path, *options, port=old.port, api_port=old.api_port) as new:
            await eventually(lambda: says(new, "proxy.listening"), within_s=30)
            await eventually(lambda: says(old, "proxy.stopping"))
            await visitors.served(20)

            async def call(method: str, path: str) -> tuple[int, str]:
                return await new.call(method, path)

            now = json.loads((await call("GET", "/api/routes"))[1])
            assert now.keys() == table.keys()
            before = now["/"]["last_activity"]
            writer.write(b"still the same tunnel")
            assert await part(reader, 21) == b"still the same tunnel"

            async def active() -> bool:
                writer.write(b".")  # again and again: the clock may have stood still since, or been put back
                assert await part(reader, 1) == b"."
                return json.loads((await call("GET", "/api/routes"))[1])["/"]["last_activity"] > before

            await eventually(active)
            assert json.loads((await call("DELETE", "/api/tunnels?user=bob"))[1]) == {"cut": 2}
            assert await until_closed(reader) == b""
            assert await until_closed(other_reader) == b""
            async with asyncio.timeout(30):
                assert await old.process.wait() == 0
            assert (tmp_path / "pid").read_text() == str(new.process.pid)
            assert (tmp_path / "h").exists()
            await visitors.leave()
        assert visitors.outcomes.keys() == {"ok"}
        writer.close()
        other_writer.close()


async def test_a_successor_that_dies_on_its_way_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "h"
    async with raw_target(talk) as target, running(tmp_path, "--handover-socket", str(path)) as proxy:
        await proxy.route("/user/ada", target.url)
        for times, words in enumerate((b"", b"{}\n"), start=1):
            with socket.socket(socket.AF_UNIX) as half:
                half.connect(str(path))
                if words:
                    half.sendall(words)
                await eventually(lambda: proxy_is_deaf(proxy))
            await eventually(lambda times=times: proxy.log.read_text().count("handover.failed") == times)

            async def called() -> bool:
                with contextlib.suppress(OSError, asyncio.TimeoutError):
                    return (await proxy.call("GET", "/api/routes"))[0] == 200
                return False

            await eventually(called)
            assert (await proxy.say(GET)).endswith(b"ok")
        assert await proxy.stop() == 0
    assert not path.exists()


async def proxy_is_deaf(proxy: RunningProxy) -> bool:
    """Whether the API accepts nothing for now: it has begun to hand over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.api_port)
    try:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(0.3):
            await reader.read()
        return False
    except TimeoutError:
        return True
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_without_a_running_proxy_the_socket_is_only_made(tmp_path: Path) -> None:
    path = tmp_path / "h"
    async with running(tmp_path, "--handover-socket", str(path)) as first:
        await first.stop()
    path.touch()
    async with running(tmp_path, "--handover-socket", str(path)) as second:
        await eventually(lambda: says(second, "proxy.listening"))
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert await second.stop() == 0
