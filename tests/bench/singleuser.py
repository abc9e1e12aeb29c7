"""Our single-user server beside jupyter_server with the same JupyterLab, in one run.

    make bench WHAT=singleuser    or    .venv/bin/python tests/bench/singleuser.py [--rounds 3] [--seconds 2]

Prints start to the first answer, idle memory (PSS), requests per second on one kept connection for a notebook of
1 MB (whole, and when the client has it) and for a folder of 5,000 files, bytes of a page load of JupyterLab in
Chromium, the time of a cell that says `1`, and that from asking for a kernel to its first reply. Rounds are interleaved; medians are shown. Last comes the memory
of a fresh server with nothing but JupyterLab's page open.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import async_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

import chromium
from bench.spawn import pss_mb
from lab import lab_is_open

TOKEN = "bench"
FILES = 5000
SETTLE_S = 30
"""After the page is open: whatever is only for a moment is over then."""
OURS, STOCK = "ours", "jupyter_server"


@dataclass
class Server:
    """One of the two, started and answering."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


def command(kind: str, root: Path, port: int) -> list[str]:
    if kind == OURS:
        words = [sys.executable, "-I", "-m", "himalia_singleuser", "--root", str(root), "--token", TOKEN]
        return [*words, "--port", str(port)]
    program = Path(sys.executable).with_name("jupyter-lab")
    if not program.exists():
        sys.exit(f"{program} is missing; run: tests/tools/prepare")
    return [
        *(str(program), "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={TOKEN}", "--LabApp.news_url=None"),
    ]


def answers(server: Server) -> bool:
    try:
        with urllib.request.urlopen(server.url("api"), timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def running(kind: str, folder: Path) -> Iterator[Server]:
    """A server of that kind on the same files, with a home of its own."""
    home = folder / f"home-{kind}"
    home.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    log = (folder / f"{kind}.log").open("ab")
    began = time.perf_counter()
    process = subprocess.Popen(command(kind, folder / "root", port), env=environ, stdout=log, stderr=log)
    server = Server(process, port, 0.0)
    try:
        while not answers(server):
            if process.poll() is not None or time.perf_counter() - began > 60:
                sys.exit(f"{kind} does not start: {(folder / f'{kind}.log').read_text()[-2000:]}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        server.seconds = time.perf_counter() - began
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


class Connection:
    """One kept connection, and as little work on our side as possible."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._buffer = memoryview(bytearray(2**20))

    def get(self, path: str, tag: str = "") -> tuple[int, int, str]:
        """Status, bytes of the body, ETag."""
        more = f"If-None-Match: {tag}\r\n" if tag else ""
        head = f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: token {TOKEN}\r\n{more}\r\n"
        self._socket.sendall(head.encode())
        got = b""
        while b"\r\n\r\n" not in got:
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionResetError(path)
            got += piece
        lines, _, body = got.partition(b"\r\n\r\n")
        first, *rest = lines.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        length = int(headers.get("content-length", 0))
        left = length - len(body)
        while left > 0:
            left -= self._socket.recv_into(self._buffer, min(left, len(self._buffer)))
        return int(first.split()[1]), length, headers.get("etag", "")

    def close(self) -> None:
        self._socket.close()


def per_second(server: Server, path: str, *, known: bool, seconds: float) -> float:
    """Requests per second for one path; `known`: with the ETag that the first answer had."""
    connection = Connection(server)
    status, length, tag = connection.get(path)
    assert (status, length > 100_000) == (200, True), (path, status, length)
    wanted = 304 if known else 200
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        assert connection.get(path, tag if known else "")[0] == wanted
        count += 1
    connection.close()
    return count / took


async def kernel_seconds(server: Server) -> float:
    """From asking for a kernel to the end of its first cell."""
    async with aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as http:
        began = time.perf_counter()
        async with http.post(server.url("api/kernels"), json={"name": "python3"}) as answer:
            kernel = (await answer.json())["id"]
        session = uuid.uuid4().hex
        async with http.ws_connect(
            server.url(f"api/kernels/{kernel}/channels?session_id={session}")
        ) as channel:
            await _cell(channel, session)
        took = time.perf_counter() - began
        await http.delete(server.url(f"api/kernels/{kernel}"))
    return took


async def spare_kernel_is_ready(server: Server, log: Path) -> None:
    """Open the page of JupyterLab, without a browser, and wait until the server has made a kernel for it."""
    before = log.read_bytes().count(b"kernel.spare_ready")
    headers = {"Authorization": f"token {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(server.url("lab")) as page:
        assert page.status == 200
    async with asyncio.timeout(60):
        while log.read_bytes().count(b"kernel.spare_ready") == before:
            await asyncio.sleep(0.05)


async def cell_seconds(server: Server, count: int = 100) -> float:
    """Median seconds from execute_request to the kernel's idle, of cells that say `1`."""
    headers = {"Authorization": f"token {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.post(server.url("api/kernels"), json={"name": "python3"}) as answer:
            kernel = (await answer.json())["id"]
        session = uuid.uuid4().hex
        url = server.url(f"api/kernels/{kernel}/channels?session_id={session}")
        async with http.ws_connect(url) as channel:
            times = [await _cell(channel, session) for _ in range(count + 5)][5:]
        await http.delete(server.url(f"api/kernels/{kernel}"))
    return statistics.median(times)


async def _cell(channel: aiohttp.ClientWebSocketResponse, session: str) -> float:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": session}
    header |= {"username": "", "version": "5.3", "date": "2026-01-01T00:00:00Z"}
    content = {"code": "1", "silent": False, "store_history": False, "allow_stdin": False}
    message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
    began, missing = time.perf_counter(), {"execute_reply", "idle"}
    await channel.send_str(json.dumps(message))
    while missing:
        told: dict[str, Any] = await channel.receive_json(timeout=30)
        if told["parent_header"].get("msg_id") == header["msg_id"]:
            missing -= {told["msg_type"], told["content"].get("execution_state")}
    return time.perf_counter() - began


async def page_load(server: Server, settle_s: float = 0) -> tuple[int, int, float]:
    """Bytes over the wire for JupyterLab in Chromium: with an empty cache, and once more; PSS in MB, `settle_s` later."""
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path="/usr/bin/chromium", args=chromium.FLAGS)
        page = await (await browser.new_context()).new_page()
        wire = await page.context.new_cdp_session(page)
        await wire.send("Network.enable")
        total = [0]
        wire.on("Network.loadingFinished", lambda told: total.append(int(told["encodedDataLength"])))
        loads = []
        for _ in range(2):
            total.clear()
            await page.goto(server.url(f"lab?token={TOKEN}"))
            await lab_is_open(page)
            await page.wait_for_load_state("networkidle")
            loads.append(sum(total))
        await asyncio.sleep(settle_s)
        memory = pss_mb(server.process.pid)
        await browser.close()
    return loads[0], loads[1], memory


@dataclass
class Table:
    """Figures by row and kind of server."""

    rows: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, row: str, kind: str, value: float) -> None:
        self.rows[row][kind].append(value)

    def show(self) -> None:
        print(f"\n| What | {OURS} | {STOCK} | ratio |\n|---|---|---|---|")
        for row, kinds in self.rows.items():
            ours, stock = statistics.median(kinds[OURS]), statistics.median(kinds[STOCK])
            more_is_better = row.endswith("/s")
            ratio = ours / stock if more_is_better else stock / ours
            print(f"| {row} | {ours:,.4g} | {stock:,.4g} | {ratio:.1f} |")


def fill(root: Path) -> None:
    """A notebook of 1 MB and a folder of many files."""
    root.mkdir()
    cells = [
        {
            "cell_type": "code",
            "execution_count": number,
            "id": f"c{number}",
            "metadata": {},
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["some words of output\n"] * 40}],
            "source": ["for number in range(10):\n", "    print(number)\n"],
        }
        for number in range(800)
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (root / "big.ipynb").write_text(json.dumps(notebook, indent=1))
    (root / "many").mkdir()
    for number in range(FILES):
        (root / "many" / f"file-{number:04}.txt").write_text("x")


CASES: dict[str, Callable[[Server, float], float]] = {
    "1 MB notebook, requests/s": lambda s, t: per_second(s, "api/contents/big.ipynb", known=False, seconds=t),
    "the same unchanged (304), requests/s": lambda s, t: per_second(
        s, "api/contents/big.ipynb", known=True, seconds=t
    ),
    f"{FILES} files, requests/s": lambda s, t: per_second(s, "api/contents/many", known=False, seconds=t),
    "the same unchanged, by ETag, requests/s": lambda s, t: per_second(
        s, "api/contents/many", known=True, seconds=t
    ),
}


def main() -> None:
    """Parse, run, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="per case and round")
    parser.add_argument("--no-page", action="store_true", help="leave Chromium out")
    args = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "root")
        for number in range(args.rounds + 1):
            for kind in (OURS, STOCK):
                with running(kind, folder) as server:
                    if number == 0:
                        continue  # byte code is written, disk caches are filled
                    table.add("start to first 200, s", kind, server.seconds)
                    table.add("idle, PSS in MB", kind, pss_mb(server.process.pid))
                    for row, case in CASES.items():
                        table.add(row, kind, case(server, args.seconds))
                    table.add("cell `1`, ms", kind, 1000 * asyncio.run(cell_seconds(server)))
                    cold = 1000 * asyncio.run(kernel_seconds(server))
                    table.add("a kernel to its first reply, ms", kind, cold)
                    if kind == OURS:
                        asyncio.run(spare_kernel_is_ready(server, folder / f"{kind}.log"))
                        cold = 1000 * asyncio.run(kernel_seconds(server))
                    table.add("the same, ours with one kept ready, ms", kind, cold)
                    if number == 1 and not args.no_page:
                        cold, warm, memory = asyncio.run(page_load(server))
                        table.add("JupyterLab, empty cache, kB", kind, cold / 1000)
                        table.add("JupyterLab, warm cache, kB", kind, warm / 1000)
                        table.add("the same page open, PSS in MB", kind, memory)
                if number == 1 and not args.no_page:
                    with running(kind, folder) as fresh:
                        *_, memory = asyncio.run(page_load(fresh, SETTLE_S))
                    table.add("nothing but that page open, PSS in MB", kind, memory)
    table.show()


if __name__ == "__main__":
    main()
