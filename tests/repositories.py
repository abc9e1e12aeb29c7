"""Git repositories, and the servers that give them out: git's own daemon, and smart HTTP with faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from support import eventually

_WHO = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")


class Repository:
    """A bare repository with a work tree beside it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.work, self.bare, self.name = folder / f"{name}.work", folder / f"{name}.git", f"{name}.git"
        self.work.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", ".")
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", self.bare], check=True)
        self.git("remote", "add", "origin", str(self.bare))

    def git(self, *words: str) -> str:
        """Run git in the work tree; what it printed."""
        env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *_WHO, *words], cwd=self.work, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str], *, branch: str = "main") -> str:
        """Write files, commit and push them to the branch; the commit."""
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        self.git("push", "--quiet", "--force", "origin", f"HEAD:{branch}")
        return self.git("rev-parse", "HEAD")


@asynccontextmanager
async def git_daemon(folder: Path) -> AsyncIterator[str]:
    """`git daemon` on loopback for what lies in the folder; the address before a repository's name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}", "--export-all"]
    process = await asyncio.create_subprocess_exec(
        shutil.which("git") or "git",
        "daemon",
        *words,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        await eventually(listens, within_s=20, what="git daemon listens")
        yield f"git://127.0.0.1:{port}/"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        await process.wait()


class SmartHttp:
    """git's CGI program behind aiohttp. `fault` is `""`, `auth`, `redirect`, `hang`, `stall` (half a pack) or `error`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fault, self.asked, self.stalled = folder, "", 0, 0
        self.url = ""
        self._released = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request of git's."""
        self.asked += 1
        match self.fault:
            case "auth":
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
            case "redirect":
                return web.Response(status=301, headers={"Location": f"http://127.0.0.1:9{request.rel_url}"})
            case "error":
                return web.Response(status=500)
            case "hang":
                await self._released.wait()
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.folder), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path, "QUERY_STRING": request.query_string, "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""), "REMOTE_ADDR": "127.0.0.1",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate(await request.read())
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200").split()[0])
        if self.fault == "stall" and b"PACK" in body:
            return await self._half(request, headers, body)
        return web.Response(status=status, headers=headers, body=body)

    async def _half(self, request: web.Request, headers: dict[str, str], body: bytes) -> web.StreamResponse:
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        await answer.write(body[: len(body) // 2])
        self.stalled += 1
        await self._released.wait()
        return answer

    def release(self) -> None:
        """Let what hangs go on."""
        self._released.set()


@asynccontextmanager
async def smart_http(folder: Path) -> AsyncIterator[SmartHttp]:
    """Smart HTTP on loopback for what lies in the folder."""
    server = SmartHttp(folder)
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield server
    finally:
        server.release()
        await runner.cleanup()


def link(url: str, ref: str = "HEAD", *, query: str = "") -> str:
    """`git/<address>/<ref>`, as it follows `/v2/` and `/build/`."""
    return f"git/{quote(url, safe='')}/{ref}" + (f"?{query}" if query else "")
