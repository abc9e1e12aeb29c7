"""A running single-user server and browsers that speak to its kernels, without a browser."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web

from himalia_singleuser.app import make_app
from himalia_singleuser.kernels.framing import V1, decode_legacy, decode_v1, encode_v1
from himalia_singleuser.kernels.options import KERNEL_OPTIONS, KernelOptions
from himalia_singleuser.lingering import LingeringRunner
from himalia_singleuser.settings import Settings


@dataclass
class Server:
    """The application on a free port, and a client that holds its token."""

    app: web.Application
    url: str
    http: ClientSession
    root: Path
    sockets: list[ClientWebSocketResponse] = field(default_factory=list)

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Status and JSON body (None when empty)."""
        async with self.http.request(method, self.url + path, **more) as answer:
            raw = await answer.read()
            return answer.status, json.loads(raw) if raw else None

    async def new_kernel(self, **body: Any) -> str:
        """The id of a freshly started kernel."""
        status, model = await self.ask("POST", "api/kernels", json=body)
        assert status == 201, model
        return str(model["id"])

    async def browser(self, kernel_id: str, session: str = "", *, v1: bool = True) -> Browser:
        """A WebSocket on a kernel."""
        session = session or uuid.uuid4().hex
        socket = await self.http.ws_connect(
            f"{self.url}api/kernels/{kernel_id}/channels",
            params={"session_id": session},
            protocols=(V1,) if v1 else (),
            max_msg_size=0,
        )
        self.sockets.append(socket)
        return Browser(socket, session, v1=v1)


@asynccontextmanager
async def running_server(
    tmp_path: Path, *, options: KernelOptions | None = None, **settings: Any
) -> AsyncIterator[Server]:
    """The whole server, gone with its kernels at the end."""
    root = tmp_path / "home"
    root.mkdir()
    app = make_app(
        Settings(
            root_dir=root,
            token="t",
            base_url="/user/ada/",
            runtime_dir=tmp_path / "run",
            data_dir=tmp_path / "data",
            **settings,
        )
    )
    if options is not None:
        app[KERNEL_OPTIONS] = options
    runner = LingeringRunner(app, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/user/ada/"
        async with ClientSession(headers={"Authorization": "token t"}) as http:
            server = Server(app, url, http, root)
            yield server
            for socket in server.sockets:
                await socket.close()
    finally:
        await runner.cleanup()


@dataclass
class Got:
    """One message as it arrived."""

    channel: str
    header: dict[str, Any]
    parent: dict[str, Any]
    metadata: dict[str, Any]
    content: dict[str, Any]
    buffers: list[bytes]

    @property
    def type(self) -> str:
        return str(self.header["msg_type"])


@dataclass
class Browser:
    """Sends and receives in one of the two protocols; `seen` holds all that arrived."""

    socket: ClientWebSocketResponse
    session: str
    v1: bool
    seen: list[Got] = field(default_factory=list)

    async def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        parent: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: tuple[bytes, ...] = (),
        subshell: str | None = None,
    ) -> str:
        """The id of the message sent."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "username": "ada",
            "session": self.session,
            "date": "2026-11-23T00:00:00Z",
            "version": "5.4",
        } | ({"subshell_id": subshell} if subshell else {})
        objects = [header, parent or {}, metadata or {}, content]
        if self.v1:
            await self.socket.send_bytes(
                encode_v1(channel, [json.dumps(one).encode() for one in objects] + list(buffers))
            )
        else:
            names = ("header", "parent_header", "metadata", "content")
            body = {"channel": channel, **dict(zip(names, objects, strict=True))}
            if buffers:
                await self.socket.send_bytes(_legacy_frame(json.dumps(body).encode(), buffers))
            else:
                await self.socket.send_str(json.dumps(body))
        return header["msg_id"]

    async def execute(self, code: str, *, stdin: bool = True, cell: str = "") -> str:
        """Ask for a cell to be run, by its id as JupyterLab names it if it has one; the id of the request."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": stdin,
            "stop_on_error": False,
        }
        metadata = {"cellId": cell, "recordTiming": True} if cell else {}
        return await self.send("execute_request", content, metadata=metadata)

    async def receive(self) -> Got:
        """The next message; ConnectionError when the server closed."""
        raw = await self.socket.receive()
        if raw.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
            raise ConnectionError(f"{raw.type!r} {self.socket.close_code}")
        text = raw.type is WSMsgType.TEXT
        data = raw.data.encode() if text else raw.data
        channel, parts = decode_v1(data) if self.v1 else decode_legacy(data, text=text)
        header, parent, metadata, content = map(json.loads, parts[:4])
        got = Got(channel, header, parent, metadata, content, parts[4:])
        self.seen.append(got)
        return got

    async def until(self, wanted: Callable[[Got], bool], *, within_s: float = 60) -> Got:
        """The first message from now on for which `wanted` holds."""
        async with asyncio.timeout(within_s):
            while True:
                got = await self.receive()
                if wanted(got):
                    return got

    async def reply(self, msg_id: str, *, within_s: float = 60) -> Got:
        """The reply to a request."""
        return await self.until(
            lambda got: got.parent.get("msg_id") == msg_id and got.type.endswith("_reply"), within_s=within_s
        )

    async def finished(self, msg_id: str, *, within_s: float = 60) -> list[Got]:
        """Everything about a request once its reply and the idle after it are here, in either order."""
        async with asyncio.timeout(within_s):
            while True:
                mine = [one for one in self.seen if one.parent.get("msg_id") == msg_id]
                idle = any(one.content.get("execution_state") == "idle" for one in mine)
                if idle and any(one.type.endswith("_reply") for one in mine):
                    return mine
                while (await self.receive()).type not in {"status", "execute_reply"}:
                    pass

    async def run(self, code: str, *, within_s: float = 60) -> list[Got]:
        """Run a cell; everything about it, reply and idle included, in the order it came."""
        return await self.finished(await self.execute(code), within_s=within_s)

    async def printed(self, code: str, *, within_s: float = 60) -> str:
        """What a cell writes to its streams."""
        return printed(await self.run(code, within_s=within_s))

    async def close(self) -> None:
        await self.socket.close()


def printed(messages: list[Got]) -> str:
    """All stream text of these messages."""
    return "".join(one.content["text"] for one in messages if one.type == "stream")


def _legacy_frame(body: bytes, buffers: tuple[bytes, ...]) -> bytes:
    parts = [body, *buffers]
    at, offsets = 4 * (len(parts) + 1), []
    for part in parts:
        offsets.append(at)
        at += len(part)
    return b"".join(number.to_bytes(4, "big") for number in (len(parts), *offsets)) + b"".join(parts)
