"""A start in a container beside a bare `docker run`: same image, same command, on an engine of its own.

    make bench WHAT=container      or      .venv/bin/python tests/bench/container.py [--rounds 10]

As root; the image is present. Prints seconds from `docker run` to the first 200 at the container's socket, from
`POST …/server` to the first 200 through the proxy, taken in turn, and where the hub's milliseconds go.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import aiohttp
from spawn import Side, p95, points, print_phases, say, side

import docker_lab
from docker_lab import Lab
from hubs import Hub, free_port
from support import eventually

PHASES = (
    ("request, wish, claim, a look", "asked", "start.before_commit"),
    ("commit of the life and its token", "start.before_commit", "start.after_commit"),
    ("look, image, network, volumes", "start.after_commit", "spawner.before_create"),
    ("engine makes the container", "spawner.before_create", "spawner.after_create"),
    ("owner of the home; engine starts it", "spawner.after_create", "spawner.after_start"),
    ("where it listens", "spawner.after_start", "start.after_create"),
    ("server answers", "start.after_create", "publish.before_put"),
    ("route, commit: ready", "publish.before_put", "ready.after_commit"),
    ("answer to the start request", "ready.after_commit", "answered"),
    ("first 200 through the proxy", "answered", "open"),
)
"""As in spawn.py."""


async def bare(lab: Lab, folder: Path) -> float:
    """Seconds from `docker run` to the first 200 of a container that nobody else has to do with."""
    folder.mkdir()
    folder.chmod(0o777)
    mounts = ["--volume", f"{folder}:/run/bare"]
    command = [*docker_lab.SERVER_COMMAND, "--socket", "/run/bare/sock"]
    run = ["docker", "-H", lab.url, "run", "--detach", "--init", "--name", folder.name, *mounts]
    connector = aiohttp.UnixConnector(str(folder / "sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *run, docker_lab.SERVER_IMAGE, *command, stdout=asyncio.subprocess.DEVNULL
        )
        while not await _answers(session):
            await asyncio.sleep(0.002)
        took = time.monotonic() - began
        assert await process.wait() == 0
    lab.remove_containers()
    return took


async def _answers(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("http://server/api") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def rounds(lab: Lab, ours: Side, folder: Path, number: int) -> None:
    """Both in turn, the first round to warm up."""
    seconds: dict[str, list[float]] = {"bare docker run": [], "himalia": []}
    phases: list[dict[str, int]] = []
    trace = ours.hub.data / "trace"
    for turn in range(number + 1):
        alone = await bare(lab, folder / f"bare{turn}")
        trace.write_text("")
        asked, answered, opened = await ours.start("u0")
        if turn:
            seconds["bare docker run"].append(alone)
            seconds["himalia"].append((opened - asked) / 1e9)
            phases.append(points(trace) | {"asked": asked, "answered": answered, "open": opened})
        await ours.stop("u0")
        await eventually(lambda: not lab.containers(), within_s=60, what="the container is gone")
        say(f"round {turn} of {number}")
    for name, values in seconds.items():
        print(
            f"{name}: to first 200, min {min(values):.3f} median {statistics.median(values):.3f} "
            f"p95 {p95(values):.3f} s ({len(values)})"
        )
    more = [mine - alone for alone, mine in zip(*seconds.values(), strict=True)]
    print(f"more than bare: median of the rounds {statistics.median(more):.3f}, most {max(more):.3f} s")
    print_phases(PHASES, phases)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="starts of each, taken in turn")
    told = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    with docker_lab.docker_lab() as lab, tempfile.TemporaryDirectory(dir="/run") as name:
        lab.build(docker_lab.SERVER_IMAGE)
        table = {"url": lab.url, "image": docker_lab.SERVER_IMAGE, "pull": "never"}
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
        config = f'[spawner]\nkind = "docker"\n[spawner.docker]\n{lines}\n'
        async with side(
            "himalia", Hub(Path(name) / "himalia", port=free_port(), config=config), ["u0"]
        ) as ours:
            await rounds(lab, ours, Path(name), told.rounds)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    asyncio.run(main())
