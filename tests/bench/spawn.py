"""Starts and memory: our hub beside JupyterHub's own, in one run.

    make bench      or      .venv/bin/python tests/bench/spawn.py [--pairs 12] [--users 20] [--cold 5]

JupyterHub 6.1.1 runs as its documentation says: SimpleLocalProcessSpawner, configurable-http-proxy, its own
single-user server. Prints seconds from `POST …/server` to the first 200 of that server through the proxy (pairs taken
in turn, so that other work on the machine hits both alike), the same for many people at once, memory (PSS) per idle
server with the warm parent counted, starts from a parent that was just killed and of fresh interpreters, and where
the milliseconds of our own start go.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from jupyterhub import JupyterHub

from hubs import Client, Hub, client, free_port
from support import eventually

PHASES = (
    ("request, who asks, may they", "asked", "wish.before_commit"),
    ("commit of the wish", "wish.before_commit", "wish.after_commit"),
    ("the loop wakes and claims", "wish.after_commit", "claim.after_commit"),
    ("a look: process, proxy", "claim.after_commit", "start.before_commit"),
    ("commit of the life and its token", "start.before_commit", "start.after_commit"),
    ("spawner: folder, socket, record", "start.after_commit", "spawner.before_fork"),
    ("the newborn takes its place", "spawner.before_fork", "spawner.after_fork"),
    ("server answers", "spawner.after_fork", "publish.before_put"),
    ("route", "publish.before_put", "publish.after_put"),
    ("commit: ready", "publish.after_put", "ready.after_commit"),
    ("answer to the start request", "ready.after_commit", "answered"),
    ("first 200 through the proxy", "answered", "open"),
)
"""Name, first and last point, of each part of a start; points as in himalia_hub.faults, and our own three."""


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, in MB (proc(5), smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


def p95(values: Sequence[float]) -> float:
    """The nearest-rank percentile."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


class Side:
    """One hub under test."""

    def __init__(self, name: str, hub: Any, admin: Client) -> None:
        self.name, self.hub, self.admin = name, hub, admin

    async def start(self, user: str) -> tuple[int, int, int]:
        """Monotonic nanoseconds: asked, answered, and the first 200 of that server through the proxy."""
        asked = time.monotonic_ns()
        status, body = await self.admin.call("POST", f"/users/{user}/server")
        assert status in (201, 202), body
        answered = time.monotonic_ns()
        async with asyncio.timeout(600):
            while not await self._is_open(user):
                await asyncio.sleep(0.002)
        return asked, answered, time.monotonic_ns()

    async def seconds(self, user: str) -> float:
        """From asking to the first 200."""
        asked, _, opened = await self.start(user)
        return (opened - asked) / 1e9

    async def stop(self, user: str) -> None:
        """Until the server is gone."""
        await self.admin.call("DELETE", f"/users/{user}/server")

        async def gone() -> bool:
            _, person = await self.admin.call("GET", f"/users/{user}")
            return not person["servers"] and not person["pending"]

        await eventually(gone, within_s=60)

    async def _is_open(self, user: str) -> bool:
        url = f"{self.hub.url}/user/{user}/api"
        async with self.admin.session.get(url, allow_redirects=False) as answer:
            return answer.status == 200


@asynccontextmanager
async def side(name: str, hub: Any, people: list[str]) -> AsyncIterator[Side]:
    """This hub, started, with these people."""
    async with AsyncExitStack() as stack:
        stack.callback(hub.clean_up)
        if isinstance(hub, Hub):
            hub.add_user("root", admin=True)
            await hub.start(env={"HIMALIA_TRACE": str(hub.data / "trace")} if name == "himalia" else None)
        else:
            await hub.start()
        stack.push_async_callback(hub.stop)
        admin = await stack.enter_async_context(client(hub, hub.token("root")))
        status, body = await admin.call("POST", "/users", json={"usernames": people})
        assert status == 201, body
        yield Side(name, hub, admin)


async def pairs(ours: Side, theirs: Side, number: int) -> None:
    """Starts in turn, the first pair to warm up."""
    seconds: dict[str, list[float]] = {ours.name: [], theirs.name: []}
    phases: list[dict[str, int]] = []
    for turn in range(number + 1):
        for one in (ours, theirs):
            trace = ours.hub.data / "trace"
            trace.write_text("")
            asked, answered, opened = await one.start("u0")
            if turn:
                seconds[one.name].append((opened - asked) / 1e9)
                if one is ours:
                    phases.append(points(trace) | {"asked": asked, "answered": answered, "open": opened})
            await one.stop("u0")
        say(f"pair {turn} of {number}")
    for name, values in seconds.items():
        print(
            f"{name}: start to first 200, min {min(values):.3f} median {statistics.median(values):.3f} "
            f"p95 {p95(values):.3f} s ({len(values)})"
        )
    ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
    medians = [statistics.median(values) for values in seconds.values()]
    print(
        f"ratio of medians: {medians[1] / medians[0]:.1f}; of minima: {min(seconds[theirs.name]) / min(seconds[ours.name]):.1f}; median of pairs: {statistics.median(ratios):.1f}"
    )
    print_phases(PHASES, phases)


def print_phases(phases: Sequence[tuple[str, str, str]], runs: Sequence[dict[str, int]]) -> None:
    """Where the milliseconds of these starts went."""
    print("where our milliseconds go (median, min):")
    for name, first, last in phases:
        took = [(run[last] - run[first]) / 1e6 for run in runs if first in run and last in run]
        if took:
            print(f"  {name:36} {statistics.median(took):6.1f} {min(took):6.1f}")


def points(trace: Path) -> dict[str, int]:
    """The last passing of each point, in monotonic nanoseconds."""
    lines = (line.split() for line in trace.read_text().splitlines())
    return {name: int(moment) for name, moment in lines}


async def crowd(ours: Side, theirs: Side, people: list[str]) -> None:
    """Everybody at once; then memory of what is idle."""
    took = {}
    for one in (ours, theirs):
        say(f"{len(people)} at once: {one.name}")
        began = time.perf_counter()
        each = await asyncio.gather(*(one.seconds(user) for user in people))
        took[one.name] = time.perf_counter() - began
        print(
            f"{one.name}: {len(people)} at once, first usable after {min(each):.2f} s, all after {took[one.name]:.2f} s"
        )
        pids = [pid for pid, _ in one.hub.processes()] if one is ours else one.hub.servers()
        assert len(pids) == len(people), pids
        warm = one.hub.nests() if one is ours else []
        total = sum(map(pss_mb, [*pids, *warm]))
        print(
            f"{one.name}: PSS per idle server {total / len(people):.1f} MB (of {len(people)}, warm parent counted)"
        )
        took[f"{one.name} MB"] = total
        await asyncio.gather(*(one.stop(user) for user in people))
    print(
        f"ratios: all usable {took[theirs.name] / took[ours.name]:.1f}, memory {took[f'{theirs.name} MB'] / took[f'{ours.name} MB']:.1f}"
    )


async def cold(ours: Side, fresh: Side, number: int) -> None:
    """Starts with the warm parent killed a moment before, and as fresh interpreters."""
    nest, interpreter = [], []
    for turn in range(number):
        os.kill(ours.hub.nest(), signal.SIGKILL)
        nest.append(await ours.seconds("u0"))
        await ours.stop("u0")
        interpreter.append(await fresh.seconds("u0"))
        await fresh.stop("u0")
        say(f"cold start {turn + 1} of {number}")
    for what, values in (("warm parent just killed", nest), ('isolation = "exec"', interpreter)):
        print(f"himalia, {what}: min {min(values):.3f} median {statistics.median(values):.3f} s")


def say(progress: str) -> None:
    """To the terminal, not into the figures."""
    print(f"  … {progress}", file=sys.stderr, flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=12, help="starts of each, taken in turn")
    parser.add_argument("--users", type=int, default=20, help="people who start at once; 0: none")
    parser.add_argument("--cold", type=int, default=5, help="cold starts of each kind; 0: none")
    told = parser.parse_args()
    people = [f"u{number}" for number in range(max(told.users, 1))]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        async with (
            side("himalia", Hub(folder / "himalia", port=port), people) as ours,
            side("jupyterhub", JupyterHub(folder / "jupyterhub", port=port + 100), people) as theirs,
        ):
            await pairs(ours, theirs, told.pairs)
            if told.users:
                await crowd(ours, theirs, people)
            if told.cold:
                exec_ = '[spawner.process]\nisolation = "exec"\n'
                async with side("exec", Hub(folder / "exec", port=port + 200, config=exec_), people) as fresh:
                    await cold(ours, fresh, told.cold)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    asyncio.run(main())
