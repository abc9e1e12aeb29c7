"""Several worker processes on one listening socket, and one table for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from component.proxy.parts import (
    RunningProxy,
    answering,
    part,
    raw_target,
    read_head,
    running,
    until_closed,
)
from component.proxy.test_proxy_limits import switching, tunnelled
from component.proxy.test_proxy_metrics import scraped
from hubs import free_port
from support import eventually

TWO = ("--workers", "2")


async def ready(proxy: RunningProxy) -> None:
    """Until its workers serve; connections would wait for that, and so does who counts workers."""
    await eventually(lambda: "proxy.listening" in proxy.log.read_text(), within_s=30)


LAST = b"GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


async def statuses(proxy: RunningProxy, path: bytes, count: int) -> Counter[bytes]:
    """Answers to `count` requests on connections of their own, which any worker may take."""
    answers = await asyncio.gather(*(proxy.say(LAST % path) for _ in range(count)))
    return Counter(answer.split(b" ")[1] for answer in answers)


async def on_both(proxy: RunningProxy) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Tunnels, at least one at each worker."""
    opened = []

    def at_each() -> bool:
        return all(any(one.status == "ESTABLISHED" for one in w.net_connections()) for w in proxy.workers())

    while not at_each():
        opened += [await tunnelled(proxy) for _ in range(8)]
    return opened


async def test_an_acknowledged_change_is_known_to_every_worker(tmp_path: Path) -> None:
    async with running(tmp_path, *TWO) as proxy, raw_target(answering()) as target:
        await ready(proxy)
        assert len(proxy.workers()) == 2
        for number in range(10):
            await proxy.route(f"/{number}", target.url)
            assert await statuses(proxy, b"/%d" % number, 12) == {b"200": 12}
            assert (await proxy.call("DELETE", f"/api/routes/{number}"))[0] == 204
            assert await statuses(proxy, b"/%d" % number, 12) == {b"404": 12}
        await proxy.call("PUT", "/api/routes", {"/new": {"target": target.url}})
        assert await statuses(proxy, b"/new", 12) == {b"200": 12}
        assert await proxy.stop() == 0


async def test_activity_counts_and_tunnels_of_workers_are_those_of_the_proxy(tmp_path: Path) -> None:
    port = free_port()
    options = (*TWO, "--metrics-ip", "127.0.0.1", "--metrics-port", str(port))
    async with running(tmp_path, *options) as proxy, raw_target(switching) as target:
        await ready(proxy)
        await proxy.route("/ws", target.url, user="ada")

        async def last() -> str:
            return json.loads((await proxy.call("GET", "/api/routes"))[1])["/ws"]["last_activity"]

        opened = await on_both(proxy)
        before = await last()

        async def moved() -> bool:
            opened[0][1].write(
                b"a word"
            )  # again and again: the clock may have stood still since, or been put back
            return await last() > before

        await eventually(moved)

        async def counted() -> bool:
            found = await scraped(proxy, port)
            return (
                found["requests_ws"] == len(opened)
                and found["himalia_proxy_tunnels"] == len(opened)
                and found['requests_proxy{status="101"}'] == len(opened)
                and found["himalia_proxy_routes"] == 1
            )

        await eventually(counted)
        status, text = await proxy.call("DELETE", "/api/tunnels?user=ada")
        assert (status, json.loads(text)) == (200, {"cut": len(opened)})
        for reader, writer in opened:
            await until_closed(reader)
            writer.close()


async def test_a_killed_worker_is_replaced_and_the_others_serve_on(tmp_path: Path) -> None:
    async with running(tmp_path, *TWO) as proxy, raw_target(answering()) as target:
        await ready(proxy)
        await proxy.route("/a", target.url)
        dead, other = proxy.workers()
        dead.kill()

        def replaced() -> bool:
            now = {one.pid for one in proxy.workers()}
            return len(now) == 2 and dead.pid not in now

        # The API answers meanwhile: nobody waits for the dead.
        await proxy.route("/b", target.url)
        await eventually(replaced, within_s=30)
        await eventually(lambda: proxy.log.read_text().count("worker.ready") == 3, within_s=30)
        assert other.is_running()
        assert await statuses(proxy, b"/b", 12) == {b"200": 12}


async def test_a_limit_of_connections_is_counted_over_all_workers(tmp_path: Path) -> None:
    options = (*TWO, "--max-connections-per-address", "12")
    async with running(tmp_path, *options) as proxy, raw_target(switching) as target:
        await ready(proxy)
        await proxy.route("/", target.url)
        opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

        async def full() -> bool:
            """Whether one more is refused; otherwise it is kept."""
            try:
                opened.append(await tunnelled(proxy))
            except (OSError, asyncio.IncompleteReadError, AssertionError):
                return True
            return False

        async def tunnels() -> int:
            return int(json.loads((await proxy.call("GET", "/api/tunnels"))[1])["open"])

        async def filled() -> bool:
            return await full() and await tunnels() == 12

        await eventually(filled, within_s=30)
        dead, _ = proxy.workers()
        dead.kill()
        for reader, writer in opened:
            writer.write(b"ping")  # those of the dead one end, those of the other echo
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await part(reader, 4)
        await eventually(lambda: proxy.log.read_text().count("worker.ready") == 3, within_s=30)
        await eventually(filled, within_s=30)
        for _, writer in opened:
            writer.close()


async def test_workers_of_a_killed_proxy_end_and_leave_the_port(tmp_path: Path) -> None:
    async with running(tmp_path, *TWO) as first:
        await ready(first)
        workers = first.workers()
        await first.stop(signal.SIGKILL)
        async with running(tmp_path, *TWO, port=first.port, api_port=first.api_port) as second:
            assert (await second.call("GET", "/api/routes")) == (200, "{}")
        gone, alive = psutil.wait_procs(workers, timeout=30)
        assert alive == [], gone


@pytest.mark.parametrize("hurry", [False, True])
async def test_a_stop_lets_requests_at_workers_end_unless_it_is_repeated(tmp_path: Path, hurry: bool) -> None:
    answer_now = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await answer_now.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    async with running(tmp_path, *TWO, "--drain-timeout", "30000") as proxy, raw_target(talk) as target:
        await ready(proxy)
        await proxy.route("/", target.url)
        workers = proxy.workers()
        reader, writer = await proxy.connect()
        writer.write(LAST % b"/")
        await eventually(lambda: target.connections == 1)
        stopping = asyncio.create_task(proxy.stop())
        await eventually(lambda: "proxy.stopping" in proxy.log.read_text())
        if hurry:
            proxy.process.send_signal(signal.SIGTERM)
            assert await until_closed(reader) == b""
        else:
            answer_now.set()
            assert (await reader.read()).endswith(b"late")
        assert await stopping == 0
        answer_now.set()
        assert psutil.wait_procs(workers, timeout=30)[1] == []
        writer.close()


async def test_a_worker_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cannot be written"):
        async with running(tmp_path, *TWO, "--access-log", str(tmp_path / "none" / "log")):
            pass


async def test_workers_of_a_proxy_that_died_before_they_were_ready_end_too(tmp_path: Path) -> None:
    async with running(tmp_path, *TWO) as proxy:
        await eventually(lambda: len(proxy.workers()) == 2, within_s=30)
        workers = proxy.workers()
        await proxy.stop(signal.SIGKILL)
    assert psutil.wait_procs(workers, timeout=30)[1] == []
