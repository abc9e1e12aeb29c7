"""The proxy under load with random deaths, for minutes: `make soak WHAT=proxy` (ARGS="--requests 100000 --tunnels 20000").

Ends with 1 if descriptors, tasks, tunnels or memory are not where they were.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from component.proxy.parts import raw_target, running
from component.proxy.soak import fickle, flat, held, load
from hubs import free_port

MB = 1024 * 1024


async def soak(folder: Path, requests: int, tunnels: int) -> None:
    port = free_port()
    options = ("--metrics-ip", "127.0.0.1", "--metrics-port", str(port), "--log-level", "error")
    async with raw_target(fickle) as target, running(folder, *options) as proxy:
        await proxy.route("/", target.url)
        await held(proxy, port)
        before = await held(proxy, port)
        print(f"before:      {before}", flush=True)
        await load(proxy, requests=requests // 20, tunnels=tunnels // 20)
        print(f"warmed up:   {await held(proxy, port)}", flush=True)
        outcomes = await load(
            proxy, requests=requests, tunnels=tunnels, progress=lambda said: print(said, flush=True)
        )
        print(f"under load:  {await held(proxy, port)}")
        target.reset_all()
        print(f"outcomes:    {dict(outcomes)}")
        print(f"at the end:  {await flat(proxy, port, before, memory=30 * MB)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tunnels", type=int, default=20_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(soak(Path(name), chosen.requests, chosen.tunnels))
