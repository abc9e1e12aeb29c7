"""A real server in a process of its own, alone or behind a small hub that speaks the real wire."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from support import eventually

TOKEN = "open-sesame"


@dataclass
class Running:
    """A started server and a client that carries its token."""

    process: asyncio.subprocess.Process
    port: int
    base: str
    root: Path
    home: Path
    log: Path
    http: aiohttp.ClientSession

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, path: str) -> URL:
        return URL(f"{self.origin}{self.base}{path}", encoded=True)

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any, Any]:
        """Status, body (JSON if it is) and headers, with the token."""
        more.setdefault("headers", {}).setdefault("Authorization", f"token {TOKEN}")
        return await self.bare(method, path, **more)

    async def bare(self, method: str, path: str, **more: Any) -> tuple[int, Any, Any]:
        """The same without the token. Redirects are not followed."""
        async with self.http.request(method, self.url(path), allow_redirects=False, **more) as answer:
            raw = await answer.read()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(raw) if is_json and raw else raw, answer.headers

    async def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start servers: `await start(base="/user/ada/", environ={...}, args=[...])`."""
    started: list[Running] = []

    async def begin(
        base: str = "/",
        environ: dict[str, str] | None = None,
        args: tuple[str, ...] = (),
        log: Path | None = None,
    ) -> Running:
        root, home = tmp_path / "root", tmp_path / "home"
        root.mkdir(exist_ok=True)
        home.mkdir(exist_ok=True)
        log = log or tmp_path / f"server-{len(started)}.log"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            number = listener.fileno()
            os.set_inheritable(number, True)
            clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
            origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
            environ = {name: text.replace("{origin}", origin) for name, text in (environ or {}).items()}
            clean |= {"HOME": str(home), "HIMALIA_LISTEN_FD": str(number), **environ}
            if "JUPYTERHUB_API_TOKEN" not in clean:
                args = ("--token", TOKEN, *args)
            with log.open("wb") as out:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-m", "himalia_singleuser", "--root", str(root)),
                    *("--base-url", base, *args),
                    env=clean,
                    pass_fds=[number],
                    stdout=out,
                    stderr=out,
                )
            port = int(origin.rpartition(":")[2])
        jar = aiohttp.DummyCookieJar()
        running = Running(process, port, base, root, home, log, aiohttp.ClientSession(cookie_jar=jar))
        started.append(running)

        async def answers() -> bool:
            assert process.returncode is None, log.read_text()
            return (await running.bare("GET", "api"))[0] == 200

        await eventually(answers, within_s=60)
        return running

    yield begin
    for running in started:
        await running.stop()
        await running.http.close()


@pytest.fixture
async def server(start: Start) -> Running:
    """One server, alone."""
    return await start()


@dataclass
class FakeHub:
    """The hub's side of the login, the identity and the activity reports."""

    url: str = ""
    user: str = "ada"
    scopes: list[str] = field(default_factory=lambda: ["access:servers!server=ada/"])
    info: dict[str, str] | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    exchanges: list[dict[str, str]] = field(default_factory=list)
    activity: list[dict[str, Any]] = field(default_factory=list)
    asked_who: int = 0
    broken: bool = False
    stop: dict[str, Any] | None = None
    said: list[dict[str, Any]] = field(default_factory=list)
    asked_stop: int = 0

    def environ(self, prefix: str = "/user/ada/") -> dict[str, str]:
        return {
            "JUPYTERHUB_API_TOKEN": "server-secret",
            "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ada",
            "JUPYTERHUB_API_URL": f"{self.url}/hub/api",
            "JUPYTERHUB_ACTIVITY_URL": f"{self.url}/hub/api/users/ada/activity",
            "JUPYTERHUB_ACTIVITY_INTERVAL": "0.2",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_SERVICE_PREFIX": prefix,
            "JUPYTERHUB_USER": "ada",
            "JUPYTERHUB_SERVER_NAME": "",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{prefix}oauth_callback",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps(
                ["access:servers!server=ada/", "access:servers!user=ada"]
            ),
        }

    async def authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        back = URL(query["redirect_uri"]).with_query(code=code, state=query["state"])
        return web.Response(status=302, headers={"Location": str(back)})

    async def token(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.exchanges.append(form)
        asked = self.codes.pop(form["code"], None)
        if form["client_secret"] != "server-secret":
            return web.json_response({"error": "invalid_client"}, status=401)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or asked["code_challenge"] != challenge:
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = f"visitor-{len(self.tokens)}"
        self.tokens[token] = self.user
        return web.json_response({"access_token": token, "token_type": "Bearer", "scope": ""})

    async def who(self, request: web.Request) -> web.Response:
        self.asked_who += 1
        if self.broken:
            return web.Response(status=503)
        name = self.tokens.get(request.headers.get("Authorization", "").removeprefix("token "))
        if name is None:
            return web.json_response({"message": "no"}, status=403)
        return web.json_response(
            {"kind": "user", "name": name, "scopes": self.scopes, "user_info": self.info}
        )

    async def took_activity(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token server-secret"
        self.activity.append(await request.json())
        return web.Response(status=200)

    async def stop_time(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token server-secret"
        self.asked_stop += 1
        if self.stop is not None and request.method == "POST":
            self.stop = self.stop | {"in_s": 3600}
        found = self.stop is not None
        return web.json_response(self.stop, status=503 if self.broken else 200 if found else 404)

    async def announcements(self, request: web.Request) -> web.Response:
        return web.json_response(self.said, status=503 if self.broken else 200)

    async def root(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "6.1.1"}, headers={"X-JupyterHub-Version": "6.1.1"})


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    """A hub with one person; tests change what it says."""
    fake = FakeHub()
    app = web.Application()
    app.add_routes(
        [
            web.get("/hub/api", fake.root),
            web.get("/hub/api/oauth2/authorize", fake.authorize),
            web.post("/hub/api/oauth2/token", fake.token),
            web.get("/hub/api/user", fake.who),
            web.post("/hub/api/users/ada/activity", fake.took_activity),
            web.get("/hub/api/users/ada/server/stop-time", fake.stop_time),
            web.post("/hub/api/users/ada/server/keep-alive", fake.stop_time),
            web.get("/hub/api/announcements", fake.announcements),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()
