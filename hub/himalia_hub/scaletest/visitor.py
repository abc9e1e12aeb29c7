"""One made-up person: signs in, starts, opens, runs a cell, idles, stops. Speaks to the public address only."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from himalia_hub.errors import HimaliaError
from himalia_hub.scaletest.report import Measured

STEP_S = 180.0
"""No step may take longer than this."""
READY_PAUSE_S = 0.05

CELL = """
import json, os
def pss(pid):
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
print(json.dumps([pss(os.getppid()), pss("self")]))
"""
"""Run by each visitor: the memory of the kernel's parent, which is the server, and of the kernel."""


class VisitFailed(HimaliaError):
    """A step did not end as it should; the message says which answer came."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the hub is: `origin` such as `http://127.0.0.1:8000`, and its prefixes with slashes at both ends."""

    origin: str
    base_url: str
    hub_prefix: str


class Visitor:
    """One visit. Its times and errors go into `measured`."""

    def __init__(self, place: Place, name: str, password: str, measured: Measured) -> None:
        self._place, self._name, self._password, self._measured = place, name, password, measured
        self._user = f"{place.origin}{place.base_url}user/{name}/"
        self._server = f"{place.origin}{place.hub_prefix}api/users/{name}/server"

    async def visit(self, idle_s: float) -> None:
        """All steps in their order; the first that fails ends the visit and is written down."""
        jar = aiohttp.CookieJar(unsafe=True, quote_cookie=False)  # an address is a number here
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            self._session = session
            try:
                await self._timed("log in", self._log_in())
                await self._timed("start", self._start())
                await self._timed("open", self._open())
                await self._timed("run a cell", self._run_a_cell())
                await asyncio.sleep(idle_s)
                await self._timed("stop", self._stop())
            except (VisitFailed, aiohttp.ClientError, OSError) as error:
                self._measured.errors.append(f"{self._step}: {error or type(error).__name__}")

    async def _timed(self, step: str, work: Any) -> None:
        self._step = step
        began = time.perf_counter()
        try:
            async with asyncio.timeout(STEP_S):
                await work
        except TimeoutError:
            raise VisitFailed(f"not done after {STEP_S:g} seconds") from None
        self._measured.seconds[step].append(time.perf_counter() - began)

    async def _log_in(self) -> None:
        url = f"{self._place.origin}{self._place.hub_prefix}login"
        async with self._session.get(url) as answer:
            await _expect(answer, 200)
        form = {"username": self._name, "password": self._password, "_xsrf": self._xsrf(url)}
        async with self._session.post(url, data=form) as answer:
            await _expect(answer, 200)
            if not answer.url.path.endswith("/home"):
                raise VisitFailed(f"signing in led to {answer.url.path}")

    async def _start(self) -> None:
        """From the request to the first answer of the server through the proxy."""
        async with self._session.post(self._server, json={}, headers=self._unsafe(self._server)) as answer:
            await _expect(answer, 201, 202)
        while True:
            async with self._session.get(f"{self._user}api", allow_redirects=False) as answer:
                if answer.status == 200:
                    return
            async with self._session.get(self._server, headers=self._unsafe(self._server)) as answer:
                await _expect(answer, 200)
                if (await answer.json())["stopped"]:
                    raise VisitFailed("the server could not be started; its page says why")
            await asyncio.sleep(READY_PAUSE_S)

    async def _open(self) -> None:
        """The page a browser would load, with the way through the hub's OAuth."""
        async with self._session.get(f"{self._user}lab") as answer:
            await _expect(answer, 200)

    async def _run_a_cell(self) -> None:
        url = f"{self._user}api/kernels"
        async with self._session.post(url, json={"name": "python3"}, headers=self._unsafe(url)) as answer:
            await _expect(answer, 201)
            kernel = (await answer.json())["id"]
        async with self._session.ws_connect(f"{url}/{kernel}/channels", max_msg_size=0) as socket:
            printed = await _execute(socket, CELL)
        try:
            server_mb, kernel_mb = json.loads(printed)
        except ValueError:
            raise VisitFailed(f"the cell printed {printed[:200]!r}") from None
        self._measured.server_mb.append(server_mb)
        self._measured.kernel_mb.append(kernel_mb)

    async def _stop(self) -> None:
        async with self._session.delete(self._server, headers=self._unsafe(self._server)) as answer:
            await _expect(answer, 202, 204)
        while answer.status == 202:
            async with self._session.get(self._server, headers=self._unsafe(self._server)) as look:
                await _expect(look, 200)
                if (await look.json())["stopped"]:
                    return
            await asyncio.sleep(READY_PAUSE_S)

    def _xsrf(self, url: str) -> str:
        cookie = self._session.cookie_jar.filter_cookies(URL(url)).get("_xsrf")
        return cookie.value if cookie else ""

    def _unsafe(self, url: str) -> dict[str, str]:
        return {
            "X-XSRFToken": self._xsrf(url),
            "Referer": f"{self._place.origin}{self._place.hub_prefix}home",
        }


async def _expect(answer: aiohttp.ClientResponse, *statuses: int) -> None:
    if answer.status not in statuses:
        text = " ".join((await answer.text()).split())[:200]
        raise VisitFailed(f"{answer.method} {answer.url.path} answered {answer.status}: {text}")


async def _execute(socket: aiohttp.ClientWebSocketResponse, code: str) -> str:
    """Run it and wait for the kernel to be idle again; what it printed."""
    message_id, session = uuid.uuid4().hex, uuid.uuid4().hex
    header = {
        "msg_id": message_id, "session": session, "username": "", "date": "", "msg_type": "execute_request",
        "version": "5.3",
    }  # fmt: skip
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    await socket.send_json(
        {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
    )
    printed = []
    async for message in _answers_to(socket, message_id):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])
        if message["msg_type"] == "error":
            raise VisitFailed(f"the cell failed: {message['content'].get('evalue', '')}")
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    return "".join(printed)


async def _answers_to(
    socket: aiohttp.ClientWebSocketResponse, message_id: str
) -> AsyncIterator[dict[str, Any]]:
    async for frame in socket:
        if frame.type is not aiohttp.WSMsgType.TEXT:
            break
        message = json.loads(frame.data)
        if message["parent_header"].get("msg_id") == message_id:
            yield message
    raise VisitFailed("the kernel's connection was closed")


@asynccontextmanager
async def administrator(token: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that carries an administrator's token."""
    async with aiohttp.ClientSession(headers={"Authorization": f"token {token}"}) as session:
        yield session
