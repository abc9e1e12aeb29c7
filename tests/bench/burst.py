"""What a kernel publishes, at a bare ZMQ client and at a browser of our server, with a keeper and without.

    make bench WHAT=burst    or    .venv/bin/python tests/bench/burst.py [--rounds 5] [--messages 20000]

Each round runs each way once, so that what else the machine does meets all of them. Prints messages per second, their
ratio to the bare client's, processor time per message by process, and the round trip of a cell that says `1`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import zmq

sys.path.insert(0, str(Path(__file__).parents[1]))

from himalia_singleuser.kernels.connection import new_connection
from himalia_singleuser.kernels.framing import V1, encode_v1
from himalia_singleuser.kernels.messages import Signer, make

BURSTS = {
    "display_data": "from IPython.display import display\nfor number in range({count}): display(number)",
    "flushed lines": "for number in range({count}): print('line', number, flush=True)",
    "lines": "for number in range({count}): print('line', number)",
}
ONES = 100
WAYS = ("bare ZMQ", "without keeper", "with keeper")

Run = Callable[[str], Awaitable[float]]
"""Runs a cell; seconds until its idle is here."""


def cpu_s(home: Path) -> dict[str, float]:
    """Processor time so far of every process with this home, by what it is."""
    mark, found = f"HOME={home}".encode(), defaultdict(float)
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if not folder.name.isdecimal() or mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            command = (folder / "cmdline").read_bytes()
            kind = "keeper" if b"singleuser.keeper" in command else "server"
            kind = "kernel" if b"ipykernel" in command else kind
            threads = (folder / "task").iterdir()
            found[kind] += sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
    return dict(found)


def request(code: str) -> Any:
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    return make("shell", "execute_request", content | {"user_expressions": {}})


def is_last(frame: bytes, parent: bytes, request_id: bytes) -> bool:
    return b'"idle"' in frame and request_id in parent


@contextmanager
def process(command: list[str], home: Path) -> Iterator[None]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            yield
        finally:
            child.send_signal(signal.SIGTERM)


@asynccontextmanager
async def bare(home: Path) -> Any:
    """A kernel, and a client that does nothing but receive."""
    connection = new_connection("ipc", home)
    connection.write(home / "kernel.json", kernel_name="python3")
    signer, context = Signer(connection.key), zmq.Context()
    shell, iopub = context.socket(zmq.DEALER), context.socket(zmq.SUB)
    iopub.rcvhwm = 0
    iopub.subscribe(b"")
    shell.connect(connection.endpoint("shell"))
    iopub.connect(connection.endpoint("iopub"))

    async def run(code: str) -> float:
        asked = request(code)
        began = time.perf_counter()
        shell.send_multipart(signer.to_wire(asked.parts))
        while True:  # blocking: nobody else has anything to do here
            frames = iopub.recv_multipart()
            if is_last(frames[-1], frames[-3], asked.header["msg_id"].encode()):
                shell.recv_multipart()
                return time.perf_counter() - began

    with process([sys.executable, "-m", "ipykernel_launcher", "-f", str(home / "kernel.json")], home):
        asked = signer.to_wire(make("shell", "kernel_info_request", {}).parts)
        shell.send_multipart(asked)
        shell.recv_multipart()  # it listens; a subscription takes a moment more
        while not iopub.poll(200):
            shell.send_multipart(asked)
            shell.recv_multipart()
        yield run
    context.destroy(linger=0)


@asynccontextmanager
async def served(home: Path, keep_s: int) -> Any:
    """The same through our server's WebSocket."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-I", "-m", "himalia_singleuser", "--root", str(home), "--token", "bench"]
    url = f"http://127.0.0.1:{port}/api"
    with process([*command, "--port", str(port), "--keep-kernels", str(keep_s)], home):
        async with aiohttp.ClientSession(headers={"Authorization": "token bench"}) as http:
            while not await _answers(http, url):
                await asyncio.sleep(0.02)
            async with http.post(f"{url}/kernels", json={}) as answer:
                kernel = (await answer.json())["id"]
            async with http.ws_connect(
                f"{url}/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}",
                protocols=(V1,),
                max_msg_size=0,
            ) as channel:

                async def run(code: str) -> float:
                    asked, missing = request(code), 2
                    mine = asked.header["msg_id"].encode()
                    began = time.perf_counter()
                    await channel.send_bytes(encode_v1("shell", asked.parts))
                    while missing:
                        data = (await channel.receive()).data
                        if b'"idle"' in data or b'"execute_reply"' in data:
                            missing -= mine in data
                    return time.perf_counter() - began

                yield run


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    with suppress(OSError):
        async with http.get(url) as answer:
            return answer.status == 200
    return False


@dataclass
class Figures:
    """Of one way."""

    rates: list[float] = field(default_factory=list)
    ones_ms: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


async def measure(way: str, burst: str, count: int, into: Figures) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="burst-") as name:
        home = Path(name)
        opened = bare(home) if way == WAYS[0] else served(home, 3600 if way == WAYS[2] else 0)
        async with opened as run:
            await run("from IPython.display import display; display(1)")
            before = cpu_s(home)
            into.rates.append(count / await run(BURSTS[burst].format(count=count)))
            for kind, seconds in cpu_s(home).items():
                into.cpu_us[kind].append((seconds - before.get(kind, 0)) / count * 1e6)
            into.ones_ms.append(1000 * statistics.median([await run("1") for _ in range(ONES)]))


def show(burst: str, all_figures: dict[str, Figures]) -> None:
    print(
        f"\n{burst}\n\n| Way | /s, median | best | of bare, by round | by best | µs of CPU each | `1`, best p50 |"
    )
    print("|---|---|---|---|---|---|---|")
    bare = all_figures[WAYS[0]].rates
    for way, got in all_figures.items():
        cpu = ", ".join(f"{kind} {statistics.median(us):.0f}" for kind, us in sorted(got.cpu_us.items()))
        by_round = statistics.median(mine / theirs for mine, theirs in zip(got.rates, bare, strict=True))
        rates = f"{statistics.median(got.rates):,.0f} | {max(got.rates):,.0f}"
        ratios = f"{by_round:.2f} | {max(got.rates) / max(bare):.2f}"
        print(f"| {way} | {rates} | {ratios} | {cpu} | {min(got.ones_ms):.2f} ms |")


def main() -> None:
    """Parse, run, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--burst", choices=BURSTS, action="append")
    args = parser.parse_args()
    for burst in args.burst or BURSTS:
        figures = {way: Figures() for way in WAYS}
        for number in range(args.rounds):
            for way in WAYS:
                asyncio.run(measure(way, burst, args.messages, figures[way]))
                print(
                    f"round {number + 1} of {args.rounds}, {way}: {figures[way].rates[-1]:,.0f}/s", flush=True
                )
        show(burst, figures)


if __name__ == "__main__":
    main()
