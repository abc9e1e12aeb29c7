"""JupyterHub itself, as its own documentation starts it, with the surface of `hubs.Hub` that benches use."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import aiohttp

import official
from support import eventually

TOKEN = "token-for-the-bench"


class JupyterHub:
    """JupyterHub 6.1.1 with SimpleLocalProcessSpawner, DummyAuthenticator and configurable-http-proxy."""

    def __init__(self, data: Path, *, port: int, command: str | None = None) -> None:
        self.data, self.port = data, port
        self.url = f"http://127.0.0.1:{port}"
        self.api = f"{self.url}/hub/api"
        self.process: subprocess.Popen[bytes] | None = None
        data.mkdir(parents=True)
        (data / "homes").mkdir()
        settings = {
            "JupyterHub.bind_url": self.url,
            "JupyterHub.hub_bind_url": f"http://127.0.0.1:{port + 2}",
            "ConfigurableHTTPProxy.api_url": f"http://127.0.0.1:{port + 1}",
            "ConfigurableHTTPProxy.command": [official.proxy()],
            "JupyterHub.authenticator_class": "dummy",
            "JupyterHub.spawner_class": "simple",
            "SimpleLocalProcessSpawner.home_dir_template": str(data / "homes" / "{username}"),
            "Spawner.cmd": [command or official.singleuser()],
            "Spawner.args": [] if command else ["--allow-root"],
            "Authenticator.allow_all": True,
            "Authenticator.admin_users": {"root"},
            "JupyterHub.concurrent_spawn_limit": 0,
            "Spawner.start_timeout": 600,  # a crowd needs longer on a small machine than the minute it is given
            "Spawner.http_timeout": 600,
            "JupyterHub.services": [{"name": "bench", "api_token": TOKEN}],
            "JupyterHub.load_roles": [
                {
                    "name": "bench",
                    "scopes": ["admin:users", "admin:servers", "access:servers"],
                    "services": ["bench"],
                }
            ],
        }
        lines = [f"c.{name} = {value!r}" for name, value in settings.items()]
        (data / "jupyterhub_config.py").write_text("\n".join(lines))

    async def start(self) -> None:
        """Until it answers through its proxy."""
        program = Path(official.singleuser()).with_name("jupyterhub")
        path = f"{program.parent}:{os.environ['PATH']}"
        with (self.data / "out").open("ab") as sink:
            self.process = subprocess.Popen(
                [str(program)], cwd=self.data, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                env={**os.environ, "PATH": path, "CONFIGPROXY_AUTH_TOKEN": "x" * 32}, start_new_session=True,
            )  # fmt: skip
        await eventually(self._answers, within_s=120, what=f"JupyterHub answers; see {self.data / 'out'}")

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.data / "out").read_text()
        try:
            async with aiohttp.ClientSession() as session, session.get(self.api + "/") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def token(self, _name: str) -> str:
        """A token that may start everybody's server."""
        return TOKEN

    def people(self, count: int) -> None:
        """So many rows of people with the default role, as its API makes them; that takes it minutes."""
        with closing(sqlite3.connect(self.data / "jupyterhub.sqlite", timeout=60)) as db, db:
            names = [(f"person-{number}", f"cookie-{number}") for number in range(count)]
            db.executemany(
                "INSERT INTO users (name, admin, created, cookie_id) VALUES (?, 0, datetime('now'), ?)", names
            )
            db.execute(
                "INSERT INTO user_role_map (user_id, role_id, managed_by_auth) SELECT users.id, roles.id, 0 "
                "FROM users, roles WHERE users.name LIKE 'person-%' AND roles.name = 'user'"
            )

    def servers(self) -> list[int]:
        """Pids of its single-user servers."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if any(b"jupyterhub-singleuser" in word for word in command) and (
                    f"127.0.0.1:{self.port + 2}".encode() in environment
                ):
                    found.append(int(entry.name))
        return found

    async def stop(self) -> None:
        """Ctrl-C, which ends servers and proxy as well."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        await eventually(lambda: process.poll() is not None, within_s=120, what="JupyterHub ends")

    def clean_up(self) -> None:
        """Kill what is left of its session."""
        if self.process is None:
            return
        for pid in self.servers():
            os.kill(pid, signal.SIGKILL)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
