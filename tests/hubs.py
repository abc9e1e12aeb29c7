"""A whole Himalia in processes of its own, for journeys, conformance and faults: started as a person would."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

import commands
from himalia_spawner.ledger import runtime_folder
from support import eventually

HIMALIA = [sys.executable, "-I", "-m", "himalia_hub"]
NESTS = (b"himalia_spawner.nest", b"himalia_spawner.commands")
"""By what a nest is known in its command line: of our own server, of commands."""
PASSWORD = "correct horse battery"
PATIENT = "slow_start_s = 45\nslow_stop_s = 45\n"
"""Of `[servers]`: a start is answered 201 and a stop 204 also on a busy machine, within the minute that `client` waits."""

_FOURS: Final = 3_000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_fours = itertools.count(
    os.getpid() + _worker * _FOURS // 2
)  # far from those of the other worker of this run


def free_port() -> int:
    """A loopback port that nobody listens on, nor on the two after it (proxy's API, hub), and that no other call gave.

    Below the ephemeral range, so that nobody is given it by chance before it is bound.
    """
    for _ in range(_FOURS):
        port = 20_000 + 4 * (next(_fours) % _FOURS)
        with (
            contextlib.suppress(OSError),
            socket.socket() as first,
            socket.socket() as second,
            socket.socket() as third,
        ):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            third.bind(("127.0.0.1", port + 2))
            return port
    raise AssertionError("no three free ports between 20000 and 32000")


class Hub:
    """`himalia up` on a data folder: start, kill, start again. `url` is the public address, without a slash."""

    verb = "up"
    inside: tuple[str, ...] = ()
    """What the hub is started by, such as `unshare …`."""
    often = "check_interval_s = 0.5\n"
    """Of `[proxy]`: tests of routes wait for no comparison longer than that."""
    program = HIMALIA
    """What the hub is; its commands are always those of the installed one."""

    def __init__(
        self, data: Path, *, config: str = "", db_url: str | None = None, port: int | None = None
    ) -> None:
        self.data, self.port = data, port or free_port()
        data.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/hub/api"
        self.homes = data
        self.db_url = db_url or f"sqlite:///{data / 'himalia.sqlite'}"
        self.output = data.parent / f"{data.name}.out"
        database = f"[db]\nurl = {json.dumps(db_url)}\n" if db_url else ""
        (data / "himalia.toml").write_text(
            f"[hub]\nport = {self.port + 2}\n[proxy]\nport = {self.port}\n{self.often}{database}{config}"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._logged = 0

    def cli(self, *args: str, stdin: str = "") -> str:
        """Run a `himalia` command on this data folder; its standard output. It must succeed."""
        done = commands.himalia(*args, "--data", str(self.data), stdin=stdin)
        assert done.code == 0, f"himalia {' '.join(args)}: {done.err}{done.out}"
        return done.out.strip()

    def add_user(self, name: str, *, admin: bool = False) -> None:
        """An account with PASSWORD."""
        self.cli(
            "user", "add", name, *(["--admin"] if admin else []), "--password-stdin", stdin=PASSWORD + "\n"
        )

    def token(self, name: str) -> str:
        """A fresh API token of this person."""
        return self.cli("token", name)

    async def start(self, *args: str, env: dict[str, str] | None = None, ready: bool = True) -> None:
        """Start it, and wait until it says that it is up (unless told not to)."""
        with self.output.open("ab") as sink:
            self._logged = sink.tell()
            self.process = subprocess.Popen(
                [*self.inside, *self.program, self.verb, "--data", str(self.data), *args],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        if ready:
            await eventually(self._up, within_s=60, what=f"himalia {self.verb} on {self.data}")

    def _up(self) -> bool:
        assert self.process is not None
        said = self.said()
        assert self.process.poll() is None, f"himalia up ended with {self.process.returncode}:\n{said}"
        return "Open http" in said

    def said(self) -> str:
        """What it wrote since its last start."""
        return self.output.read_bytes()[self._logged :].decode(errors="replace")

    def setup_link(self) -> str:
        """The one-time link that it printed."""
        found = re.search(r"http://\S+/setup\?token=\S+", self.said())
        assert found, self.said()
        return found.group(0)

    def kill(self) -> None:
        """SIGKILL the hub alone: proxy and servers go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def died(self, within_s: float = 30) -> int:
        """Wait for it to end; its exit code."""
        process = self.process
        assert process is not None
        await eventually(lambda: process.poll() is not None, within_s=within_s, what="the hub ends")
        return process.returncode

    async def stop(self) -> None:
        """Ctrl-C, and wait for the end of everything it started."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        await self.died(60)

    def processes(self) -> list[tuple[int, str]]:
        """Pid and incarnation of every living process that carries this hub's server mark, kernels included."""
        return [
            (pid, mark)
            for pid, mark in marked_processes()
            if str(self.homes) in _environ(pid).get("HOME", "")
        ]

    def nests(self) -> list[int]:
        """Pids of this hub's nests and of the child that one keeps ready. They write to the data folder, and none of its
        servers does so under that name."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if any(name in command for name in NESTS) and str(self.data) in os.readlink(
                    entry / "fd" / "1"
                ):
                    found.append(int(entry.name))
        return found

    def nest(self) -> int:
        """Pid of this hub's nest of our own servers."""
        leaders = [
            pid
            for pid in self.nests()
            if os.getsid(pid) == pid and NESTS[0] in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert leaders, "no nest runs"
        return leaders[0]

    def clean_up(self) -> None:
        """Kill whatever is left: hub, proxy, servers, and their runtime folder. For the end of a test, whatever happened
        in it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads((self.data / "proxy.json").read_text())
            for pid in (*(pid for pid, _ in record.get("former", ())), record["pid"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for pid in (*(pid for pid, _ in self.processes()), *self.nests()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(runtime_folder(None, self.data), ignore_errors=True)


def _environ(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0") if "=" in item)
    return {key: value for key, _, value in pairs}


def marked_processes() -> Iterator[tuple[int, str]]:
    """Every living process that was started as, or by, a server of any Himalia."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        mark = _environ(int(entry.name)).get("HIMALIA_INCARNATION")
        if mark:
            yield int(entry.name), mark


class Asked(NamedTuple):
    """A request of a client: when it was sent (monotonic), and what came back. `status` 0 is no answer at all."""

    at: float
    method: str
    path: str
    status: int = 0
    request_id: str = ""
    saved: str | None = None
    """What a file was to hold afterwards."""

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.status < 300


class Client:
    """The REST API as one person. `history` keeps each request, for `witness.nothing_lost`."""

    def __init__(self, session: aiohttp.ClientSession, hub: Hub, token: str) -> None:
        self.session, self.hub, self.token = session, hub, token
        self.headers = {"Authorization": f"token {token}"}
        self.history: list[Asked] = []

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and body (JSON where it is) of `{H}api<path>`."""
        return await self._ask(Asked(time.monotonic(), method, path), self.hub.api + path, options)

    async def save(self, user: str, path: str, text: str) -> int:
        """The status of a text file's save by this person's server."""
        model = {"type": "file", "format": "text", "content": text}
        url = f"/user/{user}/api/contents/{path}"
        asked = Asked(time.monotonic(), "PUT", url, saved=text)
        return (await self._ask(asked, self.hub.url + url, {"json": model}))[0]

    async def _ask(self, asked: Asked, url: str, options: dict[str, Any]) -> tuple[int, Any]:
        try:
            async with self.session.request(asked.method, url, headers=self.headers, **options) as answer:
                text = await answer.text()
                request_id = "" if asked.saved else answer.headers.get("X-Request-Id", "")
                asked = asked._replace(status=answer.status, request_id=request_id)
                return answer.status, json.loads(text) if answer.content_type == "application/json" else text
        finally:
            self.history.append(asked)

    async def server(self, user: str, name: str = "") -> dict[str, Any]:
        """The server model."""
        path = f"/users/{user}/servers/{name}" if name else f"/users/{user}/server"
        status, model = await self.call("GET", path)
        assert status == 200, model
        return model

    async def until_ready(self, user: str) -> None:
        """Wait for the person's server; while the hub cannot answer it counts as not ready."""

        async def now() -> bool:
            status, model = await self.call("GET", f"/users/{user}/server")
            return status == 200 and bool(model["ready"])

        await eventually(now, within_s=60, what=f"{user}'s server is ready")


async def answers(api: str) -> bool:
    """Whether a hub answers at this address of its API, through whatever is in front."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        try:
            async with session.get(f"{api}/health") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


Launch = Callable[..., Awaitable[tuple[Hub, Client]]]
"""Starts a hub with a configuration; gives it and its administrator's client."""


@asynccontextmanager
async def client(hub: Hub, token: str) -> AsyncIterator[Client]:
    """A client that closes after the block."""
    # A connection for each request: the proxy closes an idle one after 5 s, maybe just as the next request is sent.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Client(session, hub, token)
