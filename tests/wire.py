"""A kernel client over a Jupyter server's WebSocket: what a script would use (default JSON framing)."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp


class KernelClient:
    """One WebSocket on one kernel, with a session of its own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._session = socket, uuid.uuid4().hex
        self._kept: list[dict[str, Any]] = []

    async def send(self, msg_type: str, **content: Any) -> str:
        """Send on shell; the message's id."""
        msg_id = uuid.uuid4().hex
        if msg_type == "execute_request":
            defaults = {"silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
            content = defaults | {"stop_on_error": True} | content
        header = {
            "msg_id": msg_id,
            "username": "test",
            "session": self._session,
            "date": datetime.now(UTC).isoformat(),
            "msg_type": msg_type,
            "version": "5.3",
        }
        message = {
            "channel": "shell",
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
        }
        await self._socket.send_str(json.dumps(message | {"buffers": []}))
        return msg_id

    async def reply(self, msg_id: str, *, within_s: float = 60) -> dict[str, Any]:
        """The shell reply to a request."""
        async with asyncio.timeout(within_s):
            while True:
                found = self._find(msg_id)
                if found is not None:
                    return found
                await self._receive()

    async def reply_now(self, msg_id: str, *, after_s: float = 0.7) -> dict[str, Any] | None:
        """The reply if it comes within a moment, else None."""
        try:
            return await self.reply(msg_id, within_s=after_s)
        except TimeoutError:
            return None

    async def stream_of(self, msg_id: str) -> str:
        """All text the request printed, once the kernel is idle again."""
        async with asyncio.timeout(60):
            while not any(
                m["parent_header"].get("msg_id") == msg_id
                and m["msg_type"] == "status"
                and m["content"]["execution_state"] == "idle"
                for m in self._kept
            ):
                await self._receive()
        mine = [
            m for m in self._kept if m["parent_header"].get("msg_id") == msg_id and m["msg_type"] == "stream"
        ]
        return "".join(m["content"]["text"] for m in mine)

    def _find(self, msg_id: str) -> dict[str, Any] | None:
        for message in self._kept:
            if message["channel"] == "shell" and message["parent_header"].get("msg_id") == msg_id:
                return message
        return None

    async def _receive(self) -> None:
        frame = await self._socket.receive()
        assert frame.type is aiohttp.WSMsgType.TEXT, frame
        self._kept.append(json.loads(frame.data))


@asynccontextmanager
async def kernel_client(
    server_url: str, token: str, kernel_id: str | None = None
) -> AsyncIterator[KernelClient]:
    """A client of the given kernel, or of the one that runs, or of a new one when none does."""
    headers = {"Authorization": f"token {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        if kernel_id is None:
            async with session.get(f"{server_url}api/kernels") as answer:
                assert answer.status == 200, await answer.text()
                kernels = await answer.json()
            if not kernels:
                async with session.post(f"{server_url}api/kernels", json={"name": "python3"}) as answer:
                    assert answer.status == 201, await answer.text()
                    kernels = [await answer.json()]
            kernel_id = kernels[0]["id"]
        url = f"{server_url}api/kernels/{kernel_id}/channels?session_id={uuid.uuid4().hex}"
        async with session.ws_connect(url, max_msg_size=0) as socket:
            yield KernelClient(socket)
