"""Several hubs on one database and one proxy, each a `himalia hub` in a folder of its own, as a service runs it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from himalia_proxy.launch import proxy_argv
from hubs import Client, Hub, client, free_port
from support import eventually

TOKEN = "5" * 32


class Replica(Hub):
    """One of the hubs. `url` and `api` are its own address, not the proxy's."""

    verb = "hub"

    def __init__(self, number: int, site: Path, port: int, db_url: str, config: str) -> None:
        self.data, self.port, self.homes = site / f"hub{number}", port + 10 * (number + 1), site / "homes"
        self.data.mkdir(parents=True)
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/hub/api"
        self.db_url, self.output = db_url, site / f"hub{number}.out"
        self.process: subprocess.Popen[bytes] | None = None
        self._logged = 0
        (self.data / "himalia.toml").write_text(
            f"[hub]\nport = {self.port}\napi_url = 'http://127.0.0.1:{port}'\nsecret_file = '{site}/secret'\n"
            f"[proxy]\nstart = false\napi_url = 'http://127.0.0.1:{port + 1}'\nauth_token = '{TOKEN}'\n"
            f"check_interval_s = 0.5\n[db]\nurl = {json.dumps(db_url)}\n"
            f"[spawner.process]\nhomes_dir = '{self.homes}'\nruntime_dir = '{site}/run'\n{config}"
        )

    @property
    def worked(self) -> list[str]:
        """Whose servers this hub has brought to rest, in order; each once, for what rests is looked at now and then."""
        lines = [line for line in self.said().splitlines() if "server.rests" in line]
        return list(dict.fromkeys(json.loads(line)["user"] for line in lines))


@dataclass
class Site:
    """Two hubs behind one proxy; `proxied` is the administrator's client that comes through the proxy."""

    first: Replica
    second: Replica
    to_first: Client
    to_second: Client
    proxied: Client


@asynccontextmanager
async def two_hubs(folder: Path, db_url: str, config: str) -> AsyncIterator[Site]:
    """The database is there, the proxy runs, the hubs are not started yet. Everything ends with the block."""
    folder.mkdir()
    port = free_port()
    async with AsyncExitStack() as stack:
        replicas = [Replica(number, folder, port, db_url, config) for number in range(2)]
        for replica in replicas:
            stack.callback(replica.clean_up)
        replicas[0].cli("db", "upgrade")
        replicas[0].add_user("root", admin=True)
        await stack.enter_async_context(proxy(folder, port))
        token = replicas[0].token("root")
        behind = Hub(folder / "behind", port=port)
        clients = [await stack.enter_async_context(client(hub, token)) for hub in (*replicas, behind)]
        yield Site(*replicas, *clients)


@asynccontextmanager
async def proxy(folder: Path, port: int) -> AsyncIterator[None]:
    """Our proxy with TOKEN, at `port` and its API at the next, until the end of the block."""
    argv = proxy_argv(
        [sys.executable, "-I", "-m", "himalia_proxy"],
        ip="127.0.0.1",
        port=port,
        api_ip="127.0.0.1",
        api_port=port + 1,
    )
    with (folder / "proxy.out").open("wb") as log:
        process = subprocess.Popen(
            argv, env=os.environ | {"CONFIGPROXY_AUTH_TOKEN": TOKEN}, stdout=log, stderr=log
        )
    try:
        async with aiohttp.ClientSession() as session:
            await eventually(lambda: _answers(session, port + 1), within_s=30, what="the proxy answers")
        yield
    finally:
        process.kill()
        process.wait()


async def _answers(session: aiohttp.ClientSession, port: int) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with session.get(f"http://127.0.0.1:{port}/api/routes"):
            return True
    return False
