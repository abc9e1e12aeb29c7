"""Start-up figures, our single-user server beside the official one, in one run on one hub.

    make bench           or      .venv/bin/python tests/bench/spawn.py [--rounds 5]

Prints seconds from `POST …/server` to ready for both servers (interleaved, so that other work on the machine hits
both alike), their ratio, and the memory (PSS) of hub, proxy, one idle server of each kind and one kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import official
import wire
from hubs import Client, Hub, client


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, in MB (proc(5), smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


async def start(admin: Client, user: str) -> float:
    """Seconds until the start request is answered with a ready server."""
    began = time.perf_counter()
    status, body = await admin.call("POST", f"/users/{user}/server")
    while status == 202:
        await asyncio.sleep(0.01)
        if (await admin.server(user))["ready"]:
            break
    else:
        assert status == 201, body
    return time.perf_counter() - began


async def measure(folder: Path, rounds: int) -> None:
    kinds = {
        "himalia": Hub(folder / "himalia"),
        "official": Hub(
            folder / "official",
            config=f"[spawner]\ncommand = {json.dumps([official.singleuser(), '--allow-root'])}\n",
            port=22100,
        ),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    try:
        for kind, hub in kinds.items():
            hub.add_user("root", admin=True)
            began = time.perf_counter()
            await hub.start()
            print(f"{kind}: hub and proxy up in {time.perf_counter() - began:.2f} s")
        tokens = {kind: hub.token("root") for kind, hub in kinds.items()}
        for number in range(rounds):
            for kind, hub in kinds.items():
                async with client(hub, tokens[kind]) as admin:
                    seconds[kind].append(await start(admin, "root"))
                    if number == rounds - 1:
                        await report_memory(kind, hub, tokens[kind])
                    await admin.call("DELETE", "/users/root/server")
        for kind, times in seconds.items():
            print(
                f"{kind}: POST start to ready, min {min(times):.3f} median {statistics.median(times):.3f} max {max(times):.3f} s"
            )
        ratio = statistics.median(seconds["official"]) / statistics.median(seconds["himalia"])
        print(f"ratio official / himalia: {ratio:.1f}")
    finally:
        for hub in kinds.values():
            await hub.stop()
            hub.clean_up()


async def report_memory(kind: str, hub: Hub, token: str) -> None:
    """PSS of the parts, then of a kernel."""
    server = hub.processes()[0][0]
    proxy = json.loads((hub.data / "proxy.json").read_text())["pid"]
    assert hub.process is not None
    print(
        f"{kind}: PSS hub {pss_mb(hub.process.pid):.1f} MB, proxy {pss_mb(proxy):.1f} MB, idle server {pss_mb(server):.1f} MB"
    )
    async with wire.kernel_client(f"{hub.url}/user/root/", token) as kernel:
        await kernel.reply(await kernel.send("execute_request", code="1"))
        kernels = [pid for pid, _ in hub.processes() if pid != server]
        print(f"{kind}: PSS kernel {pss_mb(kernels[0]):.1f} MB, server with it {pss_mb(server):.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), options.rounds))
