"""Our proxy beside the official configurable-http-proxy, nginx and Caddy, in one run.

    make bench WHAT=proxy      or      .venv/bin/python tests/bench/proxy.py [--rounds 3] [--scale 1]

Prints for each case the CPU time per request and requests per second, medians of interleaved rounds, and the ratios;
then memory (PSS), TLS, the table's size, and two workers. Each proxy has one core (of one and two workers, each has both);
clients and target share the other, in this process, so they bound the requests per second of the quicker proxy: the CPU
time is the figure to compare. nginx and Caddy are left out if they are not installed (Debian: nginx-light, caddy).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from proxy_load import CASES, CONNECTIONS, SMALL, UPGRADE, Case, Door, Target, asking_each, fresh

import official
from component.proxy.certs import Authority, Pair
from component.proxy.parts import OURS, RunningProxy, running
from hubs import free_port
from support import eventually

IDLE_SOCKETS = 4000
FEW, ROUTES = 10, 10_000
NGINX = """daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000000;
  map $http_upgrade $upgraded {{ default upgrade; "" ""; }}
  upstream target {{ server {target}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgraded; proxy_buffering off;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"""
CADDY = """{{
  admin off
  auto_https off
  log {{
    level ERROR
  }}
  servers {{
    protocols h1
  }}
}}
{scheme}://:{port} {{
  bind 127.0.0.1
  {tls}
  reverse_proxy {target} {{
    flush_interval -1
    transport http {{
      keepalive_idle_conns_per_host 128
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Subject:
    """A started proxy: where to ask, and whose CPU time and memory count."""

    door: Door
    pid: int
    proxy: RunningProxy | None = None

    def processes(self) -> list[int]:
        """Itself and its workers."""
        return [self.pid, *(one.pid for one in psutil.Process(self.pid).children())]


@dataclass(frozen=True)
class Figure:
    """Of one case and proxy: microseconds of CPU per request, and requests per second."""

    cpu_us: float
    per_s: float


def cpu_s(subject: Subject) -> float:
    """User and system time, to the nanosecond where the scheduler tells it."""
    total = 0
    for pid in subject.processes():
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_mb(subject: Subject) -> float:
    total = 0.0
    for pid in subject.processes():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
    return total


async def run(case: Case, subject: Subject, count: int) -> Figure:
    before, began = cpu_s(subject), time.perf_counter()
    await case(subject.door, count)
    took = time.perf_counter() - began
    return Figure((cpu_s(subject) - before) / count * 1e6, count / took)


async def compared(subjects: Mapping[str, Subject], case: Case, count: int, rounds: int) -> dict[str, Figure]:
    """Medians of interleaved rounds; one before them warms up what is compiled or cached on the way."""
    figures: dict[str, list[Figure]] = {kind: [] for kind in subjects}
    for number in range(rounds + 1):
        for kind, subject in subjects.items():
            figure = await run(case, subject, count)
            if number:
                figures[kind].append(figure)
    return {
        kind: Figure(statistics.median(f.cpu_us for f in each), statistics.median(f.per_s for f in each))
        for kind, each in figures.items()
    }


def told(name: str, figures: Mapping[str, Figure]) -> None:
    """One line: each one's figures, and how many times ours the others' CPU time is."""
    ours, *others = figures.values()
    said = "".join(f"{one.cpu_us:8.1f} us {one.per_s:7.0f} /s" for one in figures.values())
    print(f"{name:32}{said}   " + "  ".join(f"{one.cpu_us / ours.cpu_us:5.2f}" for one in others), flush=True)


def pin(pids: Sequence[int], cores: Sequence[int]) -> None:
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


class Bench:
    """Starts proxies on the first core, all to one target."""

    def __init__(self, folder: Path, stack: AsyncExitStack, cores: Sequence[int]) -> None:
        self._folder, self._stack, self._cores = folder, stack, cores
        self.target = ""

    async def serve_target(self) -> None:
        server = await asyncio.get_running_loop().create_server(Target, "127.0.0.1", 0)
        self._stack.callback(server.close)
        self.target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def start(
        self, command: Sequence[str], *options: str, tls: ssl.SSLContext | None = None, cores: int = 1
    ) -> Subject:
        """A proxy of ours or the official one, with the route `/`."""
        proxy = await self._stack.enter_async_context(running(self._folder, *options, command=command))
        await proxy.route("/", self.target)
        if "--workers" in options:
            await eventually(lambda: "proxy.listening" in proxy.log.read_text(), within_s=60)
        subject = Subject(Door(proxy.port, tls), proxy.process.pid, proxy)
        pin(subject.processes(), self._cores[:cores])
        return subject

    async def nginx(self) -> Subject:
        """Nginx with one process."""
        port = free_port()
        config = self._folder / "nginx.conf"
        config.write_text(
            NGINX.format(folder=self._folder, port=port, target=self.target.partition("://")[2])
        )
        return await self._other(Door(port), "nginx", "-p", str(self._folder), "-c", str(config))

    async def caddy(self, tls: ssl.SSLContext | None = None, pair: Pair | None = None) -> Subject:
        """Caddy, with as many threads as it wants on the one core."""
        port = free_port()
        config = self._folder / f"Caddyfile-{port}"
        config.write_text(
            CADDY.format(
                scheme="https" if tls else "http",
                port=port,
                tls=f"tls {pair.cert} {pair.key}" if pair else "",
                target=self.target.partition("://")[2],
            )
        )
        argv = ("caddy", "run", "--adapter", "caddyfile", "--config", str(config))
        return await self._other(Door(port, tls), *argv, GOMAXPROCS="1", HOME=str(self._folder))

    async def _other(self, door: Door, *argv: str, **env: str) -> Subject:
        with (self._folder / "other.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *argv, env={**os.environ, **env}, stdout=log, stderr=log
            )

        async def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

        self._stack.push_async_callback(end)

        async def up() -> bool:
            try:
                (await door.visitor()).transport.close()
            except OSError:
                return False
            return True

        await eventually(up, within_s=20, what=f"{argv[0]} up")
        pin([process.pid], self._cores[:1])
        return Subject(door, process.pid)


async def requests(bench: Bench, rounds: int, scale: float) -> None:
    """All cases; then memory."""
    subjects = {"ours": await bench.start(OURS), "official": await bench.start([official.proxy()])}
    if shutil.which("nginx"):
        subjects["nginx"] = await bench.nginx()
    if shutil.which("caddy"):
        subjects["caddy"] = await bench.caddy()
    print(f"{'':32}{''.join(f'{kind:>22}' for kind in subjects)}   CPU: the others' by ours")
    memory = {kind: [pss_mb(subject)] for kind, subject in subjects.items()}
    for name, (case, usual) in CASES.items():
        step = 500 if "500" in name else CONNECTIONS
        count = max(int(usual * scale) // step, 1) * step
        told(name, await compared(subjects, case, count, rounds))
    for kind, subject in subjects.items():
        memory[kind] += [pss_mb(subject), await idle_sockets(subject)]
    for number, what in enumerate(("idle", "after the load", f"{IDLE_SOCKETS} idle WebSockets")):
        said = "".join(f"{memory[kind][number]:19.1f} MB" for kind in subjects)
        ours, *others = (memory[kind][number] for kind in subjects)
        print(f"{'PSS, ' + what:32}{said}   " + "  ".join(f"{one / ours:5.2f}" for one in others), flush=True)


async def idle_sockets(subject: Subject) -> float:
    """Memory with open WebSockets on which nothing moves."""
    made = []
    for _ in range(IDLE_SOCKETS):
        one = await subject.door.visitor()
        await one.ask(UPGRADE, end=b"\r\n\r\n")
        made.append(one)
    memory = pss_mb(subject)
    for one in made:
        one.transport.close()
    return memory


async def over_tls(bench: Bench, folder: Path, rounds: int, scale: float) -> None:
    """The same with TLS towards clients."""
    authority = Authority(folder / "ca")
    pair, trust = authority.sign("localhost"), ssl.create_default_context(cafile=authority.ca)
    options = ("--ssl-key", pair.key, "--ssl-cert", pair.cert)
    subjects = {
        "ours": await bench.start(OURS, *options, tls=trust),
        "official": await bench.start([official.proxy()], *options, tls=trust),
    }
    if shutil.which("caddy"):
        subjects["caddy"] = await bench.caddy(trust, pair)
    for name, case, usual in (
        ("TLS: small GET, kept connection", SMALL, 9600),
        ("TLS: a new connection each", fresh, 960),
        ("TLS: 1 MB answers", CASES["1 MB answers"][0], 320),
    ):
        count = max(int(usual * scale) // CONNECTIONS, 1) * CONNECTIONS
        told(name, await compared(subjects, case, count, rounds))


async def many_routes(bench: Bench, rounds: int, scale: float) -> None:
    """What a large table costs, and how long it takes to fill."""
    few, full = await bench.start(OURS), await bench.start(OURS)
    official_one = await bench.start([official.proxy()])
    assert few.proxy is not None
    assert full.proxy is not None
    assert official_one.proxy is not None
    data = {"target": bench.target, "user": "ada", "server_name": "", "jupyterhub": True}
    table = {f"/user/u{number}": data for number in range(ROUTES)}
    assert (await few.proxy.call("PUT", "/api/routes", dict(list(table.items())[:FEW])))[0] == 204
    began = time.perf_counter()
    assert (await full.proxy.call("PUT", "/api/routes", table))[0] == 204
    bulk = time.perf_counter() - began
    began = time.perf_counter()
    for path, route in table.items():
        await official_one.proxy.call("POST", f"/api/routes{path}", route)
    single = time.perf_counter() - began
    said = f"{bulk:18.2f} s {single:20.2f} s   {single / bulk:5.1f}"
    print(f"{f'{ROUTES} routes: one call, single':32}{said}", flush=True)
    count = max(int(9600 * scale) // CONNECTIONS, 1) * CONNECTIONS
    # As many different paths on both sides: what is compared is the table, not what is kept of answers it gave.
    few_asked, full_asked = asking_each(FEW), asking_each(ROUTES)

    async def case(door: Door, asked: int) -> None:
        await (full_asked if door is full.door else few_asked)(door, asked)

    figures = await compared({str(FEW): few, str(ROUTES): full}, case, count, rounds)
    told(f"small GET, {FEW} and {ROUTES} routes", figures)


async def workers(bench: Bench, rounds: int, scale: float) -> None:
    """What two processes cost. The one has both cores too: on a core of its own it would be spared the clients' company."""
    one, two = await bench.start(OURS, cores=2), await bench.start(OURS, "--workers", "2", cores=2)
    count = max(int(9600 * scale) // CONNECTIONS, 1) * CONNECTIONS
    told("small GET, one and two workers", await compared({"one": one, "two": two}, SMALL, count, rounds))


async def measure(folder: Path, rounds: int, scale: float, only: str) -> None:
    cores = sorted(os.sched_getaffinity(0))
    for name, part in (
        ("requests", requests),
        ("routes", many_routes),
        ("workers", workers),
    ):
        if only in ("", name):
            async with bench_of(folder, cores) as bench:
                await part(bench, rounds, scale)
    if only in ("", "tls"):
        async with bench_of(folder, cores) as bench:
            await over_tls(bench, folder, rounds, scale)


@asynccontextmanager
async def bench_of(folder: Path, cores: Sequence[int]) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        bench = Bench(folder, stack, cores)
        await bench.serve_target()
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[1:])
        try:
            yield bench
        finally:
            os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer requests")
    parser.add_argument("--only", choices=("requests", "routes", "workers", "tls"), default="")
    options = parser.parse_args()
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard) if hard > 0 else 65536, hard))
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(measure(Path(folder), options.rounds, options.scale, options.only))
