"""Our hub beside JupyterHub, in one run: reading the API with 5,000 people, making them, a herd that signs in, one that starts.

    make bench WHAT=hub      or      .venv/bin/python tests/bench/hub.py [--people 5000] [--seconds 5] [--herd 200]

Prints for each case both figures and the ratio (above 1: ours is better). Both hubs are asked at their own port, so
no proxy stands between, and both run throughout, so that other work on the machine hits both alike. Requests per second are bounded by this
process too, which asks from the other core: the CPU time of the hub per request is the steady figure.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.jupyterhub import JupyterHub
from hubs import Hub

PASSWORD = "one password for all"
CONNECTIONS = 16
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Peer:
    """One of the two: where its hub answers, its process, and a token of its administrator."""

    name: str
    port: int
    pid: int
    token: str

    @classmethod
    def of(cls, name: str, hub: Hub | JupyterHub) -> Self:
        """A hub that runs."""
        assert hub.process is not None
        return cls(name, hub.port + 2, hub.process.pid, hub.token("root"))


class UsualHub(Hub):
    """Ours as it is by itself, as the other is: the tests' hubs compare their routes ten times as often."""

    often = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What one case cost: requests per second, their 95th percentile, and the hub's CPU for one."""

    rate: float
    p95_ms: float
    cpu_ms: float


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used (proc(5), stat)."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def pss_mb(pid: int) -> float:
    """Proportional set size, in MB (proc(5), smaps_rollup)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) / 1024  # type: ignore[index]


async def ask(peer: Peer, path: str, until: float, took: list[float]) -> None:
    """One connection that asks again and again; each answer must be 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token {peer.token}\r\n\r\n".encode()
    try:
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
            took.append(time.perf_counter() - began)
    finally:
        writer.close()


async def read(peer: Peer, path: str, seconds: float) -> Load:
    """Many connections at once for so long."""
    took: list[float] = []
    before, began = cpu_s(peer.pid), time.perf_counter()
    await asyncio.gather(*(ask(peer, path, began + seconds, took) for _ in range(CONNECTIONS)))
    lasted = time.perf_counter() - began
    cpu = cpu_s(peer.pid) - before
    return Load(len(took) / lasted, statistics.quantiles(took, n=20)[-1] * 1000, cpu / len(took) * 1000)


async def make_people(peer: Peer, count: int) -> float:
    """Seconds until so many people are made by one request."""
    names = [f"person-{number}" for number in range(count)]
    timeout = aiohttp.ClientTimeout(total=600)
    headers = {"Authorization": f"token {peer.token}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        began = time.perf_counter()
        url = f"http://127.0.0.1:{peer.port}/hub/api/users"
        async with session.post(url, json={"usernames": names}) as answer:
            assert answer.status == 201, await answer.text()
            await answer.read()
        return time.perf_counter() - began


async def sign_in(peer: Peer, name: str, took: list[float], failed: list[str]) -> None:
    """As a browser does: the form, then the form sent; until the answer that sends to the next page."""
    base = f"http://127.0.0.1:{peer.port}"
    jar = aiohttp.CookieJar(unsafe=True)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout) as session:
        began = time.perf_counter()
        try:
            async with session.get(f"{base}/hub/login") as page:
                form = await page.text()
            inputs = (dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in re.findall(r"<input[^>]*>", form))
            hidden = [one for one in inputs if one.get("type") == "hidden"]
            sent = {one["name"]: html.unescape(one.get("value", "")) for one in hidden}
            sent |= {"username": name, "password": PASSWORD}
            headers = {"Origin": base}
            async with session.post(
                f"{base}/hub/login", data=sent, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status not in (302, 303):
                    failed.append(f"{answer.status} {(await answer.text())[:200]}")
        except aiohttp.ClientError as error:
            failed.append(repr(error))
        took.append(time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Herd:
    """What a crowd met: 95th percentile and the longest in seconds, and the hub's CPU for one of it."""

    p95_s: float
    longest_s: float
    cpu_ms: float


async def herd(peer: Peer, names: list[str]) -> Herd:
    """So many people who sign in at one moment."""
    took: list[float] = []
    failed: list[str] = []
    before = cpu_s(peer.pid)
    await asyncio.gather(*(sign_in(peer, name, took, failed) for name in names))
    if failed:
        print(f"  {peer.name}: {len(failed)} of {len(names)} failed, such as {failed[0]}")
    cpu = (cpu_s(peer.pid) - before) / len(names) * 1000
    return Herd(statistics.quantiles(took, n=20)[-1], max(took), cpu)


async def herds(peers: list[Peer], count: int) -> None:
    """Three crowds at each, in turn; the middle one of each counts."""
    seen = [
        [await herd(peer, [f"guest-{turn}-{number}" for number in range(count)]) for peer in peers]
        for turn in range(3)
    ]
    ours, theirs = (
        sorted((turn[index] for turn in seen), key=lambda one: one.p95_s)[1] for index in range(2)
    )
    say(f"{count} people sign in at once, 95th percentile", ours.p95_s, theirs.p95_s, "s")
    say("  the last one", ours.longest_s, theirs.longest_s, "s")
    say("  CPU of the hub", ours.cpu_ms, theirs.cpu_ms, "ms/person")


async def start(peer: Peer, session: aiohttp.ClientSession, name: str, failed: list[str]) -> float:
    """Seconds from asking for a server until it is said to be ready."""
    began = time.perf_counter()
    url = f"http://127.0.0.1:{peer.port}/hub/api/users/{name}"
    async with session.post(f"{url}/server") as answer:
        status, text = answer.status, await answer.text()
    if status == 202:  # the story's last line says how it ended; asking again and again would be the load
        async with session.get(f"{url}/server/progress") as story:
            async for line in story.content:
                if line.startswith(b"data: ") and (text := line[6:].decode()):
                    news = json.loads(text)
                    status = 201 if news.get("ready") else 500 if news.get("failed") else status
    if status != 201:
        failed.append(f"{status} {text[:200]}")
    return time.perf_counter() - began


async def longest_wait(peer: Peer, session: aiohttp.ClientSession, ended: asyncio.Event) -> float:
    """The longest that a request for which the hub does nothing waited, in ms: what its event loop was behind."""
    longest = 0.0
    while not ended.is_set():
        began = time.perf_counter()
        async with session.get(f"http://127.0.0.1:{peer.port}/hub/health") as answer:
            await answer.read()
        longest = max(longest, time.perf_counter() - began)
        await asyncio.sleep(0.02)
    return longest * 1000


async def start_herds(peers: list[Peer], count: int) -> None:
    """Everybody starts a server that costs next to nothing, at one moment; each hub alone, one after the other."""
    seen = []
    for peer in peers:
        names, failed, ended = [f"starter-{number}" for number in range(count)], [], asyncio.Event()
        headers = {"Authorization": f"token {peer.token}"}
        connections = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=600)
        async with aiohttp.ClientSession(connector=connections, timeout=timeout, headers=headers) as session:
            url = f"http://127.0.0.1:{peer.port}/hub/api/users"
            async with session.post(url, json={"usernames": names}) as answer:
                assert answer.status == 201, await answer.text()
            lag = asyncio.create_task(longest_wait(peer, session, ended))
            before = cpu_s(peer.pid)
            took = await asyncio.gather(*(start(peer, session, name, failed) for name in names))
            ended.set()
            cpu = (cpu_s(peer.pid) - before) / count * 1000
            seen.append((statistics.quantiles(took, n=20)[-1], max(took), cpu, await lag))
        if failed:
            print(f"  {peer.name}: {len(failed)} of {count} starts failed, such as {failed[0]}")
    ours, theirs = seen
    say(f"{count} people start a server at once, 95th percentile", ours[0], theirs[0], "s")
    say("  the last one", ours[1], theirs[1], "s")
    say("  CPU of the hub", ours[2], theirs[2], "ms/start")
    say("  longest wait of a request for nothing", ours[3], theirs[3], "ms")


def small_server(folder: Path) -> str:
    """The program that both hubs start, compiled."""
    made = folder / "small-server"
    subprocess.run(
        ["cc", "-O1", "-o", made, Path(__file__).with_name("small_server.c")], check=True, timeout=60
    )
    return str(made)


def say(case: str, ours: float, theirs: float, unit: str, *, more_is_better: bool = False) -> None:
    """One line: both, and how many times better ours is."""
    ratio = ours / theirs if more_is_better else theirs / ours
    print(f"{case:<44} {ours:10.2f} {theirs:10.2f} {unit:<10} {ratio:7.1f}")


async def measure(folder: Path, people: int, seconds: float, count: int) -> None:
    config = '[auth.methods.anybody]\nkind = "dummy"\nallow_all = true\ni_know_that_this_lets_everybody_in = true\n[log]\nlevel = "warning"\n'
    server = small_server(folder)
    config += f"[spawner]\ncommand = [{json.dumps(server)}]\n"
    ours, theirs = (
        UsualHub(folder / "himalia", config=config, port=23100),
        JupyterHub(folder / "jupyterhub", port=23200, command=server),
    )
    try:
        ours.add_user("root", admin=True)
        await ours.start()
        await theirs.start()
        peers = [Peer.of("himalia", ours), Peer.of("jupyterhub", theirs)]
        print(f"{'':<44} {'himalia':>10} {'jupyterhub':>10} {'':<10} {'ratio':>7}")
        made = [await make_people(peer, people) for peer in peers]
        say(f"making {people:,} people by one request", *made, "s")
        for path in ("/hub/api/user", "/hub/api/users", "/hub/api/users?limit=200&offset=2000"):
            loads = [[await read(peer, path, seconds / 2) for peer in peers] for _ in range(2)]
            best = [max((load[index] for load in loads), key=lambda one: one.rate) for index in range(2)]
            say(f"GET {path}", best[0].rate, best[1].rate, "requests/s", more_is_better=True)
            say("  95th percentile", best[0].p95_ms, best[1].p95_ms, "ms")
            say("  CPU of the hub", best[0].cpu_ms, best[1].cpu_ms, "ms/request")
        await herds(peers, count)
        await start_herds(peers, count)
        say("memory of the hub afterwards", *(pss_mb(peer.pid) for peer in peers), "MB")
    finally:
        await ours.stop()
        await theirs.stop()
        ours.clean_up()
        theirs.clean_up()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5, help="of reading each path from each hub")
    parser.add_argument("--herd", type=int, default=200, help="people who sign in at once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="himalia-bench-") as folder:
        asyncio.run(measure(Path(folder), args.people, args.seconds, args.herd))


if __name__ == "__main__":
    main()
