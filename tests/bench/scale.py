"""The control plane alone, with more and more active servers: does what one request or one start costs stay flat?

    make bench WHAT=scale      or      .venv/bin/python tests/bench/scale.py [--servers 1000 10000] [--seconds 20]
                                                   [--database postgresql] [--hubs 2]

The whole hub with all its loops, over SQLite or a PostgreSQL of its own; two hubs share event loop, spawner and proxy,
but no connection, and each is asked every other time. Servers are entries of a dictionary (`himalia_spawner.fake`), and so is
the proxy. Each server reports its activity every five minutes, spread evenly, with its own token. Meanwhile one person
after the other is read by the API, and a server beside those is started and stopped. Clients are a process of their own.
The last column is the CPU of PostgreSQL's processes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import sqlalchemy as sa
import structlog
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[1]))

import postgres
from himalia_hub import clock
from himalia_hub.app import make_app
from himalia_hub.db import migrate
from himalia_hub.db.engine import Database
from himalia_hub.secrets import Secrets, hash_token
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.world import World
from himalia_hub.settings import HubSettings, ServersSection
from himalia_hub.tokens import store as tokens
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User
from himalia_proxy.base import ProxyError, Route
from himalia_spawner.base import Handle, ServerRef
from himalia_spawner.fake import FakeBackend, FakeServer, FakeSpawner

REPORT_EVERY_S = 300.0
EXTRA = 50
"""People whose servers are started and stopped."""


class DictProxy:
    """A proxy that only keeps its table."""

    def __init__(self) -> None:
        self.table: dict[str, Route] = {}

    async def put(self, route: Route) -> None:
        self.table[route.routespec] = route

    async def delete(self, routespec: str) -> None:
        self.table.pop(routespec, None)

    async def get(self, routespec: str) -> Route | None:
        return self.table.get(routespec)

    async def routes(self) -> dict[str, Route]:
        return dict(self.table)

    async def close(self) -> None: ...

    async def move(self, *, api_url: str | None, auth_token: str | None) -> None:
        raise ProxyError("there is only one")


@asynccontextmanager
async def answering(handler: Any) -> AsyncIterator[str]:
    """The address of something that answers every request so."""
    server = web.AppRunner(handler, access_log=None, shutdown_timeout=0.1)
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{server.addresses[0][1]}"
    finally:
        await server.cleanup()


async def fill(world: World, backend: FakeBackend, proxy: DictProxy, url: str, count: int) -> str:
    """So many people, each with a server that is ready and routed; an administrator's token."""
    now = clock.now()
    async with world.db.begin() as db:
        root = User(name="root", admin=True, created=now)
        db.add_all([root, *(User(name=f"extra-{n}", created=now) for n in range(EXTRA))])
        people = [User(name=f"p{n}", created=now) for n in range(count)]
        db.add_all(people)
        await db.flush()
        state = {
            "desired": Desired.RUNNING,
            "phase": Phase.READY,
            "phase_since": now,
            "started": now,
            "url": url,
            "due_at": now,
        }
        rows = [
            Server(
                user_id=one.id,
                backend_name=one.name,
                generation=1,
                acted_generation=1,
                last_activity=now,
                **state,
            )
            for one in people
        ]
        db.add_all(rows)
        await db.flush()
        for one, row in zip(people, rows, strict=True):
            row.incarnation = f"{row.id}.1"
            scopes = ["users:activity!user", "access:servers!server"]
            hashed = hash_token(f"token-{one.name}")
            of = {"user_id": one.id, "server_id": row.id, "incarnation": row.incarnation}
            db.add(ApiToken(**of, hashed=hashed, scopes=scopes, created=now))
            backend.servers[one.name] = FakeServer(Handle(ServerRef(one.name, row.incarnation), url), {})
            await proxy.put(Route(f"/user/{one.name}/", url))
        _, secret = await tokens.issue(db, root.id, now=now, scopes=["inherit"], expires_in=timedelta(days=1))
    return secret


Sessions = Iterator[aiohttp.ClientSession]
"""One for each hub, round and round."""


async def report(sessions: Sessions, count: int, took: list[float], until: float) -> None:
    """Every server in its turn, at the pace of one each five minutes; late ones are not left out."""
    began, sent = time.perf_counter(), 0
    async with asyncio.TaskGroup() as group:
        while time.perf_counter() < until:
            await asyncio.sleep(max(0.0, began + sent * REPORT_EVERY_S / count - time.perf_counter()))
            group.create_task(report_one(next(sessions), f"p{sent % count}", took))
            sent += 1


async def report_one(session: aiohttp.ClientSession, name: str, took: list[float]) -> None:
    """As the single-user server does."""
    began, now = time.perf_counter(), clock.iso(clock.now())
    headers = {"Authorization": f"token token-{name}"}
    body = {"servers": {"": {"last_activity": now}}, "last_activity": now}
    async with session.post(f"/hub/api/users/{name}/activity", json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    took.append(time.perf_counter() - began)


async def read(sessions: Sessions, token: str, count: int, took: list[float], until: float) -> None:
    """One person after the other by the API, 20 a second."""
    headers, number = {"Authorization": f"token {token}"}, 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        async with next(sessions).get(f"/hub/api/users/p{number % count}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
        took.append(time.perf_counter() - began)
        number += 37
        await asyncio.sleep(0.05)


async def start_and_stop(
    sessions: Sessions, token: str, started: list[float], stopped: list[float], until: float
) -> None:
    """Servers beside the others, one after the other: from the request until the rows rest."""
    headers, number = {"Authorization": f"token {token}"}, 0
    while time.perf_counter() < until:
        session = next(sessions)
        url = f"/hub/api/users/extra-{number % EXTRA}/server"
        for verb, took, wanted in (("POST", started, 201), ("DELETE", stopped, 204)):
            began = time.perf_counter()
            async with session.request(verb, url, headers=headers) as answer:
                assert answer.status == wanted, await answer.text()
            took.append(time.perf_counter() - began)
        number += 1
        await asyncio.sleep(0.1)


async def lag(longest: list[float], until: float) -> None:
    """The longest that the event loop was held."""
    while time.perf_counter() < until:
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        longest[0] = max(longest[0], time.perf_counter() - began - 0.01)


def middle_and_worst(took: list[float]) -> str:
    """Median and 99th percentile in ms."""
    return f"{statistics.median(took) * 1000:7.1f} {statistics.quantiles(took, n=100)[-1] * 1000:7.1f}"


@contextmanager
def database(kind: str, folder: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """Its URL, and what tells the seconds of CPU that processes of its own have used."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'himalia.sqlite'}", lambda: 0.0
        return
    with postgres.cluster() as cluster:
        yield cluster.url, lambda: postgres_cpu_s(str(cluster.folder))


def postgres_cpu_s(folder: str) -> float:
    """Of the server in this folder with all its processes, also those that have ended."""
    found = (one for one in psutil.process_iter(["cmdline"]) if folder in " ".join(one.info["cmdline"] or ()))
    leader = min(found, key=lambda one: one.pid)
    times = [leader.cpu_times(), *(one.cpu_times() for one in leader.children())]
    return sum(one.user + one.system for one in times) + times[0].children_user + times[0].children_system


async def measure(folder: Path, count: int, seconds: float, kind: str, hubs: int) -> str:
    """One line of the table."""
    nothing = web.Application()
    nothing.router.add_route("*", "/{path:.*}", lambda _: _answer())
    async with AsyncExitStack() as stack:
        db_url, db_cpu_s = stack.enter_context(database(kind, folder))
        await migrate.upgrade(db_url)
        url = await stack.enter_async_context(answering(nothing))
        backend, proxy = FakeBackend(address=lambda _spec: url), DictProxy()
        worlds = []
        for number in range(hubs):
            data = folder / f"hub{number}"
            data.mkdir()
            settings = HubSettings(data_dir=data, servers=ServersSection(slow_start_s=60, slow_stop_s=60))
            parts = FakeSpawner(backend=backend), proxy, Secrets(b"x" * 32), Doorbell(), url
            worlds.append(World(settings, Database(db_url), *parts))
            stack.push_async_callback(worlds[-1].db.close)
        token = await fill(worlds[0], backend, proxy, url, count)
        gc.collect()
        gc.freeze()  # as the hub does: the other side of this bench would be looked at with each collection
        stack.callback(gc.unfreeze)
        at = [await stack.enter_async_context(answering(make_app(world))) for world in worlds]
        return await under_load(worlds[0], at, token, count, seconds, db_cpu_s)


async def _answer() -> web.Response:
    return web.Response()


async def at_rest(world: World) -> float:
    """Seconds until every row was looked at once, as a hub that starts does."""
    began, due = time.perf_counter(), sa.select(sa.func.count()).where(Server.due_at.is_not(None))
    while True:
        async with world.db.read() as db:
            if not await db.scalar(due):
                return time.perf_counter() - began
        await asyncio.sleep(0.05)


async def load(hubs: Sequence[str], token: str, count: int, seconds: float) -> str:
    """All clients at once for so long; their four columns."""
    reports, reads, starts, stops = [], [], [], []
    until = time.perf_counter() + seconds
    async with AsyncExitStack() as stack:
        each = [
            await stack.enter_async_context(
                aiohttp.ClientSession(hub, connector=aiohttp.TCPConnector(limit=0))
            )
            for hub in hubs
        ]
        await asyncio.gather(
            report(itertools.cycle(each), count, reports, until),
            read(itertools.cycle(each), token, count, reads, until),
            start_and_stop(itertools.cycle(each), token, starts, stops, until),
        )
    return "  ".join(map(middle_and_worst, (reads, reports, starts, stops)))


def clients_of(hubs: Sequence[str], token: str, count: int, seconds: float) -> str:
    """The same, in a process that has no loop yet."""
    return asyncio.run(load(hubs, token, count, seconds))


async def under_load(
    world: World,
    hubs: Sequence[str],
    token: str,
    count: int,
    seconds: float,
    db_cpu_s: Callable[[], float],
) -> str:
    """All loads at once for so long, after every row rests."""
    settled = await at_rest(world)
    held, loop = [0.0], asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as clients:
        await loop.run_in_executor(clients, time.time)  # it imports all this
        db_cpu, cpu, until = db_cpu_s(), time.process_time(), time.perf_counter() + seconds
        asked = loop.run_in_executor(clients, clients_of, hubs, token, count, seconds)
        four, _ = await asyncio.gather(asked, lag(held, until))
        used, db_used = (time.process_time() - cpu) / seconds, (db_cpu_s() - db_cpu) / seconds
    each = settled * 1000 / count
    return f"{count:>8,} {each:>8.1f}  {four} {held[0] * 1000:>6.0f} {used * 100:>5.0f} % {db_used * 100:>4.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[1000, 2500, 5000, 10000])
    parser.add_argument("--seconds", type=float, default=20, help="of load for each number of servers")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--hubs", type=int, default=1, help="that share it (PostgreSQL)")
    args = parser.parse_args()
    if args.hubs > 1 and args.database == "sqlite":
        parser.error("SQLite serves one hub")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print("          first look   GET a person     a report        a start         a stop       loop")
    print(
        " servers  ms each     p50     p99     p50     p99     p50     p99     p50     p99   held   CPU     DB"
    )
    for count in args.servers:
        with tempfile.TemporaryDirectory(prefix="himalia-bench-") as folder:
            line = measure(Path(folder), count, args.seconds, args.database, args.hubs)
            print(asyncio.run(line), flush=True)


if __name__ == "__main__":
    main()
