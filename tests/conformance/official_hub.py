"""The official JupyterHub in a process of its own, with our proxy for its own, and a person in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
from aiohttp.abc import AbstractResolver, ResolveResult

import official
from hubs import free_port
from support import eventually

ADMIN = "an-administrator-s-token"
PROXY_TOKEN = "the-proxy-s-token"
PASSWORD = "correct horse"
CONFIG = """
c = get_config()
c.JupyterHub.bind_url = {bind_url!r}
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = {password!r}
c.Authenticator.allow_all = True
c.JupyterHub.internal_certs_location = {certificates!r}
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {home!r}
c.Spawner.cmd = [{singleuser!r}]
c.Spawner.args = ["--allow-root"]
c.Spawner.http_timeout = 150
c.Spawner.start_timeout = 150
c.JupyterHub.services = [{{"name": "admin", "api_token": {admin!r}}}]
c.JupyterHub.load_roles = [{{"name": "admins", "services": ["admin"], "scopes": ["admin:users", "admin:servers", "proxy"]}}]
c.ConfigurableHTTPProxy.command = {command!r}
c.ConfigurableHTTPProxy.api_url = {api_url!r}
c.ConfigurableHTTPProxy.check_running_interval = 1
c.ConfigurableHTTPProxy.auth_token = {proxy_token!r}
"""


class OfficialHub:
    """`url` is the public address with a final slash."""

    def __init__(self, folder: Path, *, domain: str, config: str) -> None:
        self.folder = folder
        self.port, self.api_port = free_port(), free_port()
        self.url = f"http://{domain or '127.0.0.1'}:{self.port}/"
        scheme = "https" if "internal_ssl" in config else "http"
        text = CONFIG.format(
            bind_url=f"http://127.0.0.1:{self.port}/", hub_port=free_port(), password=PASSWORD, admin=ADMIN,
            certificates=str(folder / "internal-ssl"), home=str(folder / "{username}"), singleuser=official.singleuser(),
            command=[str(Path(sys.executable).parent / "himalia"), "proxy"],
            api_url=f"{scheme}://127.0.0.1:{self.api_port}", proxy_token=PROXY_TOKEN,
        )  # fmt: skip
        (folder / "config.py").write_text(text + config)
        self.log = folder / "hub.log"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it until it answers through the proxy."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
        env["PATH"] = f"{Path(official.hub()).parent}:{env['PATH']}"
        with self.log.open("wb") as out:
            self.process = await asyncio.create_subprocess_exec(
                official.hub(), "-f", "config.py", cwd=self.folder, env=env, stdout=out, stderr=out
            )
        await eventually(self.answers, within_s=150, what=f"the hub: {self.said()}")

    async def answers(self) -> bool:
        """Whether the hub does, through the proxy."""
        assert self.process is not None
        assert self.process.returncode is None, self.said()
        try:
            async with person(self) as session, session.get(f"{self.url}hub/health") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    async def stop(self) -> None:
        """End it, its proxy and its servers; nothing of it is left."""
        if self.process is not None and self.process.returncode is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(30):
                    await self.process.wait()
            finally:
                for one in children:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()

    def proxy(self) -> psutil.Process:
        """The proxy's process."""
        assert self.process is not None
        found = [
            p for p in psutil.Process(self.process.pid).children() if "himalia_proxy" in " ".join(p.cmdline())
        ]
        assert len(found) == 1, found
        return found[0]

    async def call(self, method: str, path: str) -> tuple[int, Any]:
        """Status and JSON of a call to the hub's REST API."""
        async with (
            person(self) as session,
            session.request(
                method, f"{self.url}hub/api/{path}", headers={"Authorization": f"token {ADMIN}"}
            ) as answer,
        ):
            spoken = answer.content_type == "application/json"
            return answer.status, await answer.json() if spoken else await answer.text()


@asynccontextmanager
async def official_hub(folder: Path, *, domain: str = "", config: str = "") -> AsyncIterator[OfficialHub]:
    """A running one; `domain` gives each person a subdomain."""
    hub = OfficialHub(folder, domain=domain, config=config)
    if domain:
        with (folder / "config.py").open("a") as file:
            file.write(f"c.JupyterHub.subdomain_host = {hub.url.rstrip('/')!r}\n")
    try:
        await hub.start()
        yield hub
    finally:
        await hub.stop()


class _Loopback(AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0)]

    async def close(self) -> None: ...


def loopback_connector() -> aiohttp.TCPConnector:
    """For a browser to whom every name is this machine."""
    return aiohttp.TCPConnector(resolver=_Loopback())


def person(hub: OfficialHub) -> aiohttp.ClientSession:
    """A browser without cookies yet; every name is this machine."""
    return aiohttp.ClientSession(
        connector=loopback_connector(),
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        timeout=aiohttp.ClientTimeout(total=60),
    )


async def sign_in(hub: OfficialHub, session: aiohttp.ClientSession, name: str) -> None:
    """Through the login page, as a browser does."""
    async with session.get(f"{hub.url}hub/login") as page:
        assert page.status == 200, await page.text()
    form = {"username": name, "password": PASSWORD, "_xsrf": xsrf(session, f"{hub.url}hub/login")}
    async with session.post(f"{hub.url}hub/login?next=%2Fhub%2Ftoken", data=form) as page:
        assert page.status == 200, await page.text()
        assert page.url.path == "/hub/token", page.url


def xsrf(session: aiohttp.ClientSession, url: str) -> str:
    """The value a page of `url` would send along."""
    from yarl import URL

    return session.cookie_jar.filter_cookies(URL(url))["_xsrf"].value


async def start_server(hub: OfficialHub, name: str) -> str:
    """Ask for a person's server and wait; its URL."""
    status, _ = await hub.call("POST", f"users/{name}/server")
    assert status in (201, 202)

    async def ready() -> str | None:
        _, user = await hub.call("GET", f"users/{name}")
        server = user["servers"].get("")
        return server["full_url"] or server["url"] if server and server["ready"] else None

    url = await eventually(ready, within_s=150, what=f"server: {hub.said()}")
    return url if urlsplit(url).netloc else hub.url.rstrip("/") + url
