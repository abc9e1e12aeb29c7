"""A proxy as a real process, and targets that answer byte for byte as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import psutil

from hubs import free_port
from support import eventually

TOKEN = "the-proxy-token"
OURS = [sys.executable, "-I", "-m", "himalia_proxy"]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RunningProxy:
    """A started proxy process, ours or the official one."""

    process: Any
    port: int
    api_port: int
    log: Path
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = TOKEN,
        raw: bytes | None = None,
    ) -> tuple[int, str]:
        """Status and text of an API call, the path sent as it is given."""
        from yarl import URL

        headers = {} if token is None else {"Authorization": f"token {token}"}
        url = URL(self.api + path, encoded=True)
        async with self.session.request(method, url, json=body, data=raw, headers=headers) as answer:
            return answer.status, await answer.text()

    async def route(self, path: str, target: str, **data: object) -> None:
        """Add a route."""
        assert (await self.call("POST", f"/api/routes{path}", {"target": target, **data}))[0] == 201

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection to the public port."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, data: bytes, *, within_s: float = 30) -> bytes:
        """All that is answered to `data`, until the proxy closes."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            async with asyncio.timeout(within_s):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def sockets(self) -> int:
        """Open connections, listeners left out."""
        return sum(one.status != "LISTEN" for one in psutil.Process(self.process.pid).net_connections("inet"))

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        return psutil.Process(self.process.pid).children()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


def command_line(
    command: Sequence[str], port: int, api_port: int, *options: str, token: str | None = TOKEN
) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of a proxy on these ports."""
    argv = [*command, "--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1"]
    argv += ["--api-port", str(api_port), *options]
    env = {name: value for name, value in os.environ.items() if name != "CONFIGPROXY_AUTH_TOKEN"}
    if token is not None:
        env["CONFIGPROXY_AUTH_TOKEN"] = token
    return argv, env


@asynccontextmanager
async def running(
    folder: Path,
    *options: str,
    command: Sequence[str] = OURS,
    port: int = 0,
    api_port: int = 0,
    token: str | None = TOKEN,
) -> AsyncIterator[RunningProxy]:
    """A proxy on these or on free ports; killed at the end if the test has not stopped it."""
    port, api_port = port or free_port(), 0 if "--api-socket" in options else api_port or free_port()
    argv, env = command_line(command, port, api_port, *options, token=token)
    log = folder / f"proxy-{port}-{len(list(folder.glob('proxy-*')))}.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*argv, env=env, stdout=out, stderr=out)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        proxy = RunningProxy(process, port, api_port, log, session)
        try:
            await eventually(lambda: answers(proxy), what=f"proxy up: {log.read_text()}")
            yield proxy
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def answers(proxy: RunningProxy) -> bool:
    code = proxy.process.poll() if hasattr(proxy.process, "poll") else proxy.process.returncode
    if code is not None:
        raise AssertionError(f"the proxy ended with {code}: {proxy.log.read_text()}")
    for port in (proxy.port, proxy.api_port) if proxy.api_port else (proxy.port,):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
    return True


@dataclass
class RawTarget:
    """A target whose every connection is handled by `talk`; it remembers what it was sent."""

    talk: Talk
    url: str = ""
    connections: int = 0
    closed: int = 0
    seen: list[bytes] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self.talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.closed += 1
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def reset_all(self) -> None:
        """Cut every open connection with a reset."""
        for writer in list(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def raw_target(talk: Talk, *, path: Path | None = None) -> AsyncIterator[RawTarget]:
    """A target on a free port, or on the unix socket at `path`."""
    target = RawTarget(talk)
    if path is not None:
        server = await asyncio.start_unix_server(target._handle, path)
        target.url = "http+unix://" + str(path).replace("/", "%2F")
    else:
        server = await asyncio.start_server(target._handle, "127.0.0.1", 0)
        target.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield target
    finally:
        server.close()
        target.reset_all()
        await eventually(lambda: target.closed == target.connections, what="the target's handlers end")


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """One head, up to and with the empty line."""
    return await reader.readuntil(b"\r\n\r\n")


def answering(body: bytes = b"ok", *lines: bytes, status: bytes = b"200 OK") -> Talk:
    """Answers every bodiless request on a connection with `body`, keep-alive."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            head = b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines])
            writer.write(head + b"\r\n\r\n" + body)
            await writer.drain()

    return talk


async def part(reader: asyncio.StreamReader, size: int) -> bytes:
    """`size` bytes, in good time."""
    async with asyncio.timeout(30):
        return await reader.readexactly(size)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """A head, in good time."""
    async with asyncio.timeout(30):
        return await read_head(reader)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the end, a reset included."""
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


class serving:
    """An aiohttp server with one handler."""

    def __init__(self, handler) -> None:
        self._app = aiohttp.web.Application(client_max_size=10**10)
        self._app.router.add_route("*", "/{path:.*}", handler)
        self._runner = aiohttp.web.AppRunner(self._app, shutdown_timeout=1)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        site = aiohttp.web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()
