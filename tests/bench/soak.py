"""Many idle servers on one machine, held for a while: still answering, and nothing grows.

    make soak      or      .venv/bin/python tests/bench/soak.py [--users 200] [--minutes 10] [--kernels 20]

Everyone's server is started, then all are asked again and again; then kernels are started on some. Prints memory,
descriptors and processes of the hub, the proxy, the warm parent and the servers as it goes, and ends with an error
when a server does not answer or a figure has grown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import wire
from himalia_singleuser.activity import FIRST_S
from hubs import Client, Hub, client
from support import eventually

AT_ONCE = 8
MAY_GROW_MB, MAY_GROW_FILES = 0.15, 10
"""Of the whole memory, as a share; and descriptors of hub and proxy, for a connection that happens to be open."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a moment costs: PSS in MB of everything, descriptors of hub and proxy, number of processes."""

    hub_mb: float
    proxy_mb: float
    servers_mb: float
    files: int
    processes: int

    def __str__(self) -> str:
        return (
            f"hub {self.hub_mb:.0f} MB, proxy {self.proxy_mb:.0f} MB, servers {self.servers_mb:.0f} MB, "
            f"{self.files} descriptors, {self.processes} processes"
        )


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, in MB; 0 when it has just ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def figures(hub: Hub) -> Figures:
    """Now."""
    assert hub.process is not None
    proxy = json.loads((hub.data / "proxy.json").read_text())["pid"]
    pids = [*(pid for pid, _ in hub.processes()), *hub.nests()]
    files = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (hub.process.pid, proxy))
    return Figures(pss_mb(hub.process.pid), pss_mb(proxy), sum(map(pss_mb, pids)), files, len(pids))


async def start_all(admin: Client, people: list[str]) -> float:
    """Everybody's server; seconds until the last is ready."""
    began, places = time.monotonic(), asyncio.Semaphore(AT_ONCE)

    async def start(user: str) -> None:
        async with places:
            status, body = await admin.call("POST", f"/users/{user}/server")
            while status == 202 and not (await admin.server(user))["ready"]:
                await asyncio.sleep(0.1)
            assert status in (201, 202), body

    await asyncio.gather(*map(start, people))
    return time.monotonic() - began


async def all_have_reported(hub: Hub) -> None:
    """Each server has told the hub that it is there, and holds a connection to it from then on.

    Nothing but those connections is opened now, so they all are once none came for as long as a new server waits.
    """
    most, since = 0, time.monotonic()

    def quiet() -> bool:
        nonlocal most, since
        files = figures(hub).files
        if files > most:
            most, since = files, time.monotonic()
        return time.monotonic() - since > FIRST_S

    await eventually(quiet, within_s=60, what="every server has reported")


async def all_answer(admin: Client, people: list[str]) -> None:
    """Each server answers through the proxy."""
    for user in people:
        async with admin.session.get(f"{admin.hub.url}/user/{user}/api") as answer:
            assert answer.status == 200, f"{user}: {answer.status}"


async def run_kernels(hub: Hub, token: str, people: list[str]) -> None:
    """A kernel on each of these servers runs a cell, and is ended."""
    for user in people:
        async with wire.kernel_client(f"{hub.url}/user/{user}/", token) as kernel:
            text = await kernel.stream_of(await kernel.send("execute_request", code="print(6 * 7)"))
            assert text.strip() == "42", text


async def soak(hub: Hub, *, users: int, seconds: float, kernels: int, every_s: float) -> list[Figures]:
    """Start, hold, look. The figures of each look; AssertionError names what went wrong."""
    people = [f"s{number}" for number in range(users)]
    hub.add_user("root", admin=True)
    token = hub.token("root")
    await hub.start()
    async with client(hub, token) as admin:
        assert (await admin.call("POST", "/users", json={"usernames": people}))[0] == 201
        say(f"{users} servers are ready after {await start_all(admin, people):.1f} s")
        await all_have_reported(hub)
        await all_answer(admin, people)
        seen = [figures(hub)]
        say(f"   0 s: {seen[0]}")
        began = time.monotonic()
        while (left := seconds - (time.monotonic() - began)) > 0:
            await asyncio.sleep(min(every_s, left))
            await all_answer(admin, people)
            seen.append(figures(hub))
            say(f"{time.monotonic() - began:4.0f} s: {seen[-1]}")
        await run_kernels(hub, token, people[:kernels])
        say(f"kernels ran on {kernels} of them: {figures(hub)}")
        await all_answer(admin, people)
    return seen


def must_be_flat(seen: list[Figures]) -> None:
    """AssertionError when the last look costs more than the first."""
    first, last = seen[0], seen[-1]
    before, after = (one.hub_mb + one.proxy_mb + one.servers_mb for one in (first, last))
    assert after <= before * (1 + MAY_GROW_MB), f"memory grew: {first} → {last}"
    assert last.files <= first.files + MAY_GROW_FILES, f"descriptors grew: {first} → {last}"
    assert last.processes <= first.processes + 1, f"processes grew: {first} → {last}"


def say(line: str) -> None:
    """To the terminal, at once."""
    print(line, flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kernels", type=int, default=20)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub(Path(folder) / "data", config="[servers]\nconcurrent_start_limit = 0\n")
        try:
            must_be_flat(
                await soak(hub, users=told.users, seconds=told.minutes * 60, kernels=told.kernels, every_s=30)
            )
            await hub.stop()
            assert hub.processes() == []
            say("flat, and nothing is left")
        finally:
            hub.clean_up()


if __name__ == "__main__":
    asyncio.run(main())
