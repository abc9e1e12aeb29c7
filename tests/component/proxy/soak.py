"""Load with random deaths, and whether anything of it stays: for the suite and, larger, for `make soak WHAT=proxy`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from component.proxy.parts import RunningProxy, read_head
from support import eventually

AT_A_TIME = 50
HANDSHAKE = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def fickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A target that dies by chance: before its answer, in the middle of it, in a tunnel."""
    while True:
        head = await read_head(reader)
        chance = random.random()
        if chance < 0.03:
            writer.transport.abort()
            return
        if b"Upgrade" in head:
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            while data := await reader.read(4096):
                if random.random() < 0.1:
                    writer.transport.abort()
                    return
                writer.write(data)
            return
        if chance < 0.06:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
            await writer.drain()
            writer.transport.abort()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@dataclass(frozen=True)
class Held:
    """What a proxy process has, beside what was ready before it began to work."""

    descriptors: int
    memory: int
    tasks: int
    tunnels: int


async def held(proxy: RunningProxy, metrics_port: int) -> Held:
    """Now; memory in bytes."""
    async with proxy.session.get(f"http://127.0.0.1:{metrics_port}/metrics") as answer:
        text = await answer.text()
    gauges = {
        name: float(value) for name, value in re.findall(r"^himalia_proxy_(\w+) (\S+)$", text, re.MULTILINE)
    }
    process = psutil.Process(proxy.process.pid)
    return Held(process.num_fds(), process.memory_info().rss, int(gauges["tasks"]), int(gauges["tunnels"]))


async def request(proxy: RunningProxy, outcomes: Counter[str]) -> None:
    """Several on one connection; sometimes gone before the answer."""
    reader, writer = await proxy.connect()
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        for _ in range(10):
            writer.write(b"GET /r HTTP/1.1\r\nHost: h\r\n\r\n")
            if random.random() < 0.02:
                writer.transport.abort()
                return
            head = await read_head(reader)
            outcomes[head.split(b" ", 2)[1].decode()] += 1
            length = re.search(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def tunnel(proxy: RunningProxy, outcomes: Counter[str]) -> None:
    """Open, say a few words, and leave: politely, with a reset, or before the handshake is answered."""
    reader, writer = await proxy.connect()
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        writer.write(HANDSHAKE)
        way = random.random()
        if way < 0.1:
            writer.transport.abort()
            return
        head = await read_head(reader)
        outcomes["tunnel" if b" 101 " in head else "no tunnel"] += 1
        for _ in range(random.randrange(4) if b" 101 " in head else 0):
            writer.write(b"words")
            await reader.readexactly(5)
        if way < 0.3:
            writer.transport.abort()
            return
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def load(
    proxy: RunningProxy, *, requests: int, tunnels: int, progress: Callable[[str], None] = lambda _: None
) -> Counter[str]:
    """So many requests (ten a connection) and tunnels, AT_A_TIME at once, in random order; what became of them."""
    outcomes: Counter[str] = Counter()
    work = [request] * (requests // 10) + [tunnel] * tunnels
    random.shuffle(work)
    for start in range(0, len(work), AT_A_TIME):
        async with asyncio.TaskGroup() as group:
            for one in work[start : start + AT_A_TIME]:
                group.create_task(one(proxy, outcomes))
        if start // AT_A_TIME % 40 == 0:
            progress(f"{start} of {len(work)}: {dict(outcomes)}")
    return outcomes


async def flat(proxy: RunningProxy, metrics_port: int, before: Held, *, memory: int) -> Held:
    """Until nothing is open beyond what was `before`, and memory within `memory` bytes of it; AssertionError."""
    now = before

    async def as_before() -> bool:
        nonlocal now
        now = await held(proxy, metrics_port)
        return now.descriptors <= before.descriptors and now.tasks <= before.tasks and now.tunnels == 0

    # Idle connections to targets are kept for twenty seconds.
    await eventually(as_before, within_s=40, what=f"nothing stays open: {before}")
    assert now.memory - before.memory < memory, (before, now)
    assert "Traceback" not in Path(proxy.log).read_text()
    return now
