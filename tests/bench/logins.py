"""A crowd whose argon2 passwords are checked at once, and what other requests notice of it.

    make bench WHAT=logins      or      .venv/bin/python tests/bench/logins.py [--people 200] [--seconds 5]

Somebody with a token asks `GET /hub/api/user` and `GET /hub/health`, for which the hub does nothing, without a pause:
first alone, then while everybody signs in. The longest wait of the second is what the event loop was held. The crowd
is a process of its own, so that what it computes is not in those figures, though it wants a processor like the hub.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.hub import PASSWORD, Herd, Peer, herd
from himalia_hub.auth.password import hash_password
from hubs import Hub

PEOPLE = "person-{}"


@dataclass(frozen=True, slots=True)
class Waits:
    """Milliseconds that an answer took: `GET /user`, and what nothing is done for."""

    user: list[float]
    nothing: list[float]

    def row(self, name: str) -> str:
        p95 = [statistics.quantiles(each, n=20)[-1] for each in (self.user, self.nothing)]
        middle = statistics.median(self.user)
        return (
            f"{name:<22}{len(self.user):>8,}{middle:>10.1f}{p95[0]:>8.1f}{max(self.user):>9.1f}"
            f"{p95[1]:>12.1f}{max(self.nothing):>9.1f}"
        )


async def watch(session: aiohttp.ClientSession, base: str, ended: asyncio.Event) -> Waits:
    """Ask one after the other until told to stop; every answer must be 200."""
    seen = Waits([], [])
    while not ended.is_set():
        for path, into in (("/hub/api/user", seen.user), ("/hub/health", seen.nothing)):
            began = time.perf_counter()
            async with session.get(base + path) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
            into.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.01)
    return seen


async def alone(session: aiohttp.ClientSession, base: str, seconds: float) -> Waits:
    """For so long, while nobody signs in."""
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, ended.set)
    return await watch(session, base, ended)


async def beside(session: aiohttp.ClientSession, base: str, peer: Peer, count: int) -> tuple[Waits, Herd]:
    """While everybody signs in; and what those met."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as another:
        await loop.run_in_executor(another, os.getpid)  # it has imported everything
        watching = asyncio.create_task(watch(session, base, ended))
        met = await loop.run_in_executor(another, crowd, peer, count)
    ended.set()
    return await watching, met


def crowd(peer: Peer, count: int) -> Herd:
    """Everybody at once; in a process of its own."""
    return asyncio.run(herd(peer, [PEOPLE.format(number) for number in range(count)]))


async def measure(folder: Path, count: int, seconds: float) -> None:
    hub = Hub(folder / "data", config='[log]\nlevel = "warning"\n')
    hub.add_user("root", admin=True)
    names = [PEOPLE.format(number) for number in range(count)]
    timeout = aiohttp.ClientTimeout(total=300)
    try:
        await hub.start()
        peer = Peer.of("himalia", hub)
        base, headers = f"http://127.0.0.1:{peer.port}", {"Authorization": f"token {peer.token}"}
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            async with session.post(f"{base}/hub/api/users", json={"usernames": names}) as answer:
                assert answer.status == 201, await answer.text()
            give_password(hub)
            await alone(session, base, 1)
            rows = [("nobody signs in", await alone(session, base, seconds))]
            during, met = await beside(session, base, peer, count)
            rows.append((f"{count} sign in", during))
            rows.append(("nobody any more", await alone(session, base, seconds)))
        print(f"{'ms':<22}{'asked':>8}{'median':>10}{'p95':>8}{'longest':>9}{'loop: p95':>12}{'longest':>9}")
        for name, waits in rows:
            print(waits.row(name))
        print(
            f"signed in: p95 {met.p95_s:.1f} s, the last after {met.longest_s:.1f} s, {met.cpu_ms:.0f} ms of the hub's CPU each"
        )
    finally:
        await hub.stop()
        hub.clean_up()


def give_password(hub: Hub) -> None:
    """Everybody's password, as the hub would have stored it."""
    with sqlite3.connect(hub.data / "himalia.sqlite", timeout=30) as rows:
        rows.execute(
            "UPDATE users SET password_hash = ? WHERE name LIKE 'person-%'", (hash_password(PASSWORD),)
        )
    rows.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5, help="of asking while nobody signs in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="himalia-bench-") as folder:
        asyncio.run(measure(Path(folder), args.people, args.seconds))


if __name__ == "__main__":
    main()
