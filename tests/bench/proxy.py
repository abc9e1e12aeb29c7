"""Our proxy beside the official configurable-http-proxy, in one run.

    make bench WHAT=proxy      or      .venv/bin/python tests/bench/proxy.py [--rounds 3] [--scale 1]

Prints for each case the proxy's CPU time per request, requests per second and the ratios, medians of interleaved
rounds, and the memory (PSS). Each proxy has one core; clients and target share another, in this process, so they
bound the requests per second of the quicker proxy: the CPU time is the figure to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

import official
from component.proxy.parts import OURS, RunningProxy, running

END = b"<end of answer>"
MB = 1024 * 1024
CONNECTIONS = 32
FRAME = b"\x82\xfe\x04\x00\x00\x00\x00\x00" + b"x" * 1024
"""A masked binary frame of 1 KiB, as a browser sends it. The target says the same bytes again."""

IDLE_SOCKETS = 1000


class Target(asyncio.Protocol):
    """Answers `/small` and `/large`, and repeats all that comes after a switch of protocols."""

    answers: ClassVar = {
        name: b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for name, body in {b"/small": b"ok" + END, b"/large": b"x" * (MB - len(END)) + END}.items()
    }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one but in name
        self._head, self._switched = b"", False

    def data_received(self, data: bytes) -> None:
        if self._switched:
            self._transport.write(data)
            return
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path == b"/echo":
                self._switched = True
                self._transport.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                )
            else:
                self._transport.write(self.answers[path])


class Visitor(asyncio.Protocol):
    """One connection; `ask` waits for an answer that ends as expected."""

    def __init__(self) -> None:
        self._tail = b""
        self._end, self._length, self._got = END, 0, 0
        self._answer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        self._tail = (self._tail + data)[-len(self._end) :] if self._end else b""
        if self._answer and not self._answer.done() and self._got >= self._length and self._tail == self._end:
            self._answer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed before the answer"))

    async def ask(self, data: bytes, *, end: bytes = END, length: int = 0) -> None:
        """Send; until at least `length` bytes have come and the last of them are `end`."""
        self._tail, self._end, self._length, self._got = b"", end, length, 0
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        await self._answer


def get(path: str, *, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{more}\r\n".encode()


UPGRADE = get(
    "/echo",
    more="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
)


async def visitor(proxy: RunningProxy) -> Visitor:
    _, made = await asyncio.get_running_loop().create_connection(Visitor, "127.0.0.1", proxy.port)
    return made


async def many(proxy: RunningProxy, count: int, path: str) -> None:
    """`count` requests over kept connections."""

    async def one() -> None:
        made = await visitor(proxy)
        for _ in range(count // CONNECTIONS):
            await made.ask(get(path), length=MB if path == "/large" else 0)
        made.transport.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def small(proxy: RunningProxy, count: int) -> None:
    await many(proxy, count, "/small")


async def large(proxy: RunningProxy, count: int) -> None:
    await many(proxy, count, "/large")


async def fresh(proxy: RunningProxy, count: int) -> None:
    async def one() -> None:
        for _ in range(count // CONNECTIONS):
            made = await visitor(proxy)
            await made.ask(get("/small", more="Connection: close\r\n"))
            made.transport.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def echo(proxy: RunningProxy, count: int) -> None:
    async def one() -> None:
        made = await visitor(proxy)
        await made.ask(UPGRADE, end=b"\r\n\r\n")
        for _ in range(count // CONNECTIONS):
            await made.ask(FRAME, end=FRAME[-16:], length=len(FRAME))
        made.transport.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


Case = Callable[[RunningProxy, int], Awaitable[None]]
CASES: dict[str, tuple[Case, int]] = {
    "small GET, kept connection": (small, 9600),
    "1 MB answers": (large, 640),
    "a new connection per request": (fresh, 3200),
    "WebSocket echo, 1 KiB": (echo, 9600),
}


@dataclass(frozen=True)
class Figure:
    """Of one case and proxy: microseconds of CPU per request, and requests per second."""

    cpu_us: float
    per_s: float


def cpu_s(pid: int) -> float:
    """User and system time of a process, all its threads."""
    after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")


def pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


async def run(case: Case, proxy: RunningProxy, count: int) -> Figure:
    before, began = cpu_s(proxy.process.pid), time.perf_counter()
    await case(proxy, count)
    took = time.perf_counter() - began
    return Figure((cpu_s(proxy.process.pid) - before) / count * 1e6, count / took)


@asynccontextmanager
async def proxies(folder: Path) -> AsyncIterator[dict[str, RunningProxy]]:
    """Ours and the official one, each on the first core, with one target behind."""
    server = await asyncio.get_running_loop().create_server(Target, "127.0.0.1", 0)
    target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    cores = sorted(os.sched_getaffinity(0))
    try:
        async with AsyncExitStack() as stack:
            made = {}
            for kind, command in {"ours": OURS, "official": [official.proxy()]}.items():
                made[kind] = await stack.enter_async_context(running(folder, command=command))
                await made[kind].route("/", target)
                for task in Path(f"/proc/{made[kind].process.pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), cores[:1])
            if len(cores) > 1:
                os.sched_setaffinity(0, cores[1:])
            yield made
    finally:
        server.close()


async def idle_sockets(proxy: RunningProxy) -> float:
    """Memory with open WebSockets on which nothing moves."""
    made = []
    for _ in range(IDLE_SOCKETS):
        one = await visitor(proxy)
        await one.ask(UPGRADE, end=b"\r\n\r\n")
        made.append(one)
    memory = pss_mb(proxy.process.pid)
    for one in made:
        one.transport.close()
    return memory


async def measure(folder: Path, rounds: int, scale: float) -> None:
    async with proxies(folder) as both:
        memory = {kind: [pss_mb(proxy.process.pid)] for kind, proxy in both.items()}
        print(f"{'':30} {'ours':>22} {'official':>22} {'CPU ratio':>10}")
        for name, (case, usual) in CASES.items():
            count = max(int(usual * scale) // CONNECTIONS, 1) * CONNECTIONS
            figures: dict[str, list[Figure]] = {kind: [] for kind in both}
            for number in range(rounds + 1):
                for kind, proxy in both.items():
                    figure = await run(case, proxy, count)
                    if number:  # the first round warms up what is compiled or cached on the way
                        figures[kind].append(figure)
            cpu = {kind: statistics.median(one.cpu_us for one in each) for kind, each in figures.items()}
            rate = {kind: statistics.median(one.per_s for one in each) for kind, each in figures.items()}
            said = [f"{cpu[kind]:8.0f} us {rate[kind]:7.0f} /s" for kind in both]
            print(f"{name:30} {said[0]:>22} {said[1]:>22} {cpu['official'] / cpu['ours']:10.1f}", flush=True)
        for kind, proxy in both.items():
            memory[kind] += [pss_mb(proxy.process.pid), await idle_sockets(proxy)]
        for number, what in enumerate(
            ("PSS, idle", "PSS, after the load", f"PSS, {IDLE_SOCKETS} idle WebSockets")
        ):
            ours, theirs = memory["ours"][number], memory["official"][number]
            print(f"{what:30} {ours:>19.1f} MB {theirs:>19.1f} MB {theirs / ours:10.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer requests")
    options = parser.parse_args()
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard) if hard > 0 else 65536, hard))
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(measure(Path(folder), options.rounds, options.scale))
