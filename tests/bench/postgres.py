"""Our hub on SQLite, on PostgreSQL, and two hubs on one PostgreSQL: what reading, signing in and starting cost them.

    make bench WHAT=postgres      or      .venv/bin/python tests/bench/postgres.py [--herd 200] [--only sqlite one two]

CPU time of the hub, or of both hubs together, and of the database's processes. Crowds come in two rounds, of which the
second counts. With two hubs each person goes to one of them, by turns; afterwards each server must run once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

import postgres
import replicas
from bench.hub import Peer, UsualHub, cpu_s, longest_wait, make_people, read, sign_in, small_server, start
from hubs import Hub, free_port

PATHS = ("/hub/api/user", "/hub/api/users")
SETTLE_S = 1
"""So long the hub is left alone after people were made: what that has it do is no part of their starts."""


@dataclass(frozen=True, slots=True)
class Site:
    """What is measured: one hub or several, and the database's leading process, if it has one."""

    name: str
    hubs: Sequence[Hub]
    database: int | None = None

    def peers(self) -> list[Peer]:
        """Each hub, asked at its own port."""
        token = self.hubs[0].token("root")
        return [Peer(self.name, _port(hub), hub.process.pid, token) for hub in self.hubs if hub.process]

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU of the hubs, and of the database's processes."""
        hubs = sum(cpu_s(hub.process.pid) for hub in self.hubs if hub.process)
        if self.database is None:
            return hubs, 0.0
        children = psutil.Process(self.database).children()
        return hubs, sum(cpu_s(one.pid) for one in children if one.is_running())


def _port(hub: Hub) -> int:
    return int(hub.port) if isinstance(hub, replicas.Replica) else int(hub.port) + 2


@asynccontextmanager
async def on(kind: str, folder: Path, config: str) -> AsyncIterator[Site]:
    """The hub or hubs of this kind, which run until the end of the block."""
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(postgres.cluster()) if kind != "sqlite" else None
        leader = cluster._server.pid if cluster and cluster._server else None
        url = cluster.url if cluster else None
        if kind == "two":
            port = free_port()
            folder.mkdir()
            await stack.enter_async_context(replicas.proxy(folder, port))
            hubs: list[Hub] = [replicas.Replica(n, folder, port, url or "", config) for n in range(2)]
            for hub in hubs:  # routes are compared as often as by itself, as `UsualHub` has it
                file = hub.data / "himalia.toml"
                file.write_text(file.read_text().replace("check_interval_s = 0.5\n", ""))
            hubs[0].cli("db", "upgrade")
        else:
            hubs = [UsualHub(folder, config=config, db_url=url)]
        for hub in hubs:
            stack.callback(hub.clean_up)
        hubs[0].add_user("root", admin=True)
        for hub in hubs:
            await hub.start()
            stack.push_async_callback(hub.stop)
        yield Site(kind, hubs, leader)


async def crowd_signs_in(site: Site, peers: list[Peer], names: list[str]) -> str:
    """Everybody at one moment; a line of the table."""
    took: list[float] = []
    failed: list[str] = []
    before = site.cpu()
    await asyncio.gather(
        *(sign_in(peers[n % len(peers)], name, took, failed) for n, name in enumerate(names))
    )
    return _line("sign-ins", before, site.cpu(), took, failed)


async def crowd_starts(site: Site, peers: list[Peer], names: list[str]) -> str:
    """Everybody at one moment; a line of the table, with the longest that a request for nothing waited."""
    failed: list[str] = []
    ended = asyncio.Event()
    headers = {"Authorization": f"token {peers[0].token}"}
    patience = aiohttp.ClientTimeout(total=600)
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, timeout=patience, connector=connections) as session:
        async with session.post(
            f"http://127.0.0.1:{peers[0].port}/hub/api/users", json={"usernames": names}
        ) as answer:
            assert answer.status == 201, await answer.text()
        await asyncio.sleep(SETTLE_S)
        lag = asyncio.create_task(longest_wait(peers[0], session, ended))
        before = site.cpu()
        asked = (start(peers[n % len(peers)], session, name, failed) for n, name in enumerate(names))
        took = list(await asyncio.gather(*asked))
        line = _line("starts", before, site.cpu(), took, failed)
        ended.set()
        return f"{line}  held {await lag:.0f} ms"


def _line(
    what: str, before: tuple[float, float], after: tuple[float, float], took: list[float], failed: list[str]
) -> str:
    hub, database = ((late - early) / len(took) * 1000 for early, late in zip(before, after, strict=True))
    wrong = f"  {len(failed)} failed: {failed[0]}" if failed else ""
    p95 = statistics.quantiles(took, n=20)[-1]
    return f"{what:<16} hub {hub:6.2f} ms  database {database:5.2f} ms  p95 {p95:5.2f} s{wrong}"


def who_started(site: Site, names: list[str]) -> str:
    """How many processes there are, and of whom there is not exactly one; how many starts each hub has ended."""
    by_name = Counter(owner for pid, _ in site.hubs[0].processes() if (owner := _owner(pid)))
    odd = [name for name in names if by_name[name] != 1]
    shares = [len(hub.worked) for hub in site.hubs if isinstance(hub, replicas.Replica)]
    return f"{by_name.total()} servers, not exactly one of {len(odd)} {odd[:3]}; starts ended by each hub: {shares}"


def _owner(pid: int) -> str:
    """Whose server it is; nobody's, if it is none."""
    with suppress(psutil.Error):
        one = psutil.Process(pid)
        return one.environ().get("JUPYTERHUB_USER", "") if "small-server" in one.cmdline()[0] else ""
    return ""


async def measure(kind: str, folder: Path, people: int, seconds: float, herd: int) -> None:
    """All figures of one kind."""
    config = '[auth.methods.anybody]\nkind = "dummy"\nallow_all = true\n'
    level = "info" if kind == "two" else "warning"  # by its lines is told which hub worked
    config += f'i_know_that_this_lets_everybody_in = true\n[log]\nlevel = "{level}"\n'
    config += f"[spawner]\ncommand = [{json.dumps(small_server(folder))}]\n"
    async with on(kind, folder / kind, config) as site:
        peers = site.peers()
        print(f"{kind}: {people:,} people in {await make_people(peers[0], people):.2f} s")
        for path in PATHS:
            before = site.cpu()
            loads = await asyncio.gather(*(read(peer, path, seconds) for peer in peers))
            rate = sum(load.rate for load in loads)
            hub, database = ((late - early) for early, late in zip(before, site.cpu(), strict=True))
            each = 1000 / (rate * seconds)
            print(
                f"{'GET ' + path[8:]:<16} hub {hub * each:6.3f} ms  database {database * each:5.3f} ms  {rate:6.0f}/s"
            )
        names: list[str] = []
        for turn in range(2):
            print(await crowd_signs_in(site, peers, [f"guest-{turn}-{n}" for n in range(herd)]))
        for turn in range(2):
            names += [f"starter-{turn}-{n}" for n in range(herd)]
            print(await crowd_starts(site, peers, names[-herd:]), flush=True)
        print(who_started(site, names), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=2, help="of reading each path")
    parser.add_argument("--herd", type=int, default=200, help="people in a crowd")
    parser.add_argument(
        "--only", nargs="+", default=["sqlite", "one", "two"], choices=["sqlite", "one", "two"]
    )
    args = parser.parse_args()
    for kind in args.only:
        with tempfile.TemporaryDirectory(prefix="himalia-bench-") as folder:
            asyncio.run(measure(kind, Path(folder), args.people, args.seconds, args.herd))


if __name__ == "__main__":
    main()
