"""Worker processes: they accept on the listening sockets they inherit and serve by the table of the first process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from himalia_proxy.core import log
from himalia_proxy.errors import StartError
from himalia_proxy.members import Members
from himalia_proxy.table import RouteTable, shown
from himalia_proxy.tally import SharedTally, shared_memory

ENVIRONMENT: Final = "HIMALIA_PROXY_WORKER"
READY_WITHIN_S: Final = 60.0
_PAUSE_S: Final = 1.0


@dataclass(frozen=True)
class Inherited:
    """What a worker gets from the first process: the channel to it, listening sockets by name, and where to count."""

    channel: socket.socket
    sockets: dict[str, socket.socket]
    tally: SharedTally


def inherited(environ: Mapping[str, str]) -> Inherited | None:
    """What this process was given, if it is a worker."""
    text = environ.get(ENVIRONMENT)
    if text is None:
        return None
    given = json.loads(text)
    made = {name: socket.socket(fileno=number) for name, number in given["sockets"].items()}
    return Inherited(made.pop("channel"), made, tuple(given["tally"]))


class Workers:
    """Keeps `count` of them. `argv` is the proxy's own command line, which they read too."""

    def __init__(
        self,
        members: Members,
        table: RouteTable,
        argv: Sequence[str],
        sockets: Mapping[str, socket.socket],
        count: int,
    ) -> None:
        self._members = members
        self._table = table
        self._argv = argv
        self._sockets = sockets
        self._count = count
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._memory = shared_memory(count)

    async def start(self) -> None:
        """Start all; StartError if one does not come up."""
        ready = [asyncio.get_running_loop().create_future() for _ in range(self._count)]
        self._keepers = [asyncio.create_task(self._keep(number, one)) for number, one in enumerate(ready)]
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await asyncio.gather(*ready)
        except TimeoutError:
            raise StartError(f"the workers were not ready within {READY_WITHIN_S:g} s.") from None

    async def stop(self, *, tunnels_s: float = 0.0) -> None:
        """Have them drain, leave tunnels that many seconds, and end; return when they have."""
        self._stopping = True
        self._members.tell({"stop": tunnels_s})
        await asyncio.gather(*self._keepers, return_exceptions=True)
        os.close(self._memory)

    def hurry(self) -> None:
        """Have them end at once."""
        self._members.tell({"hurry": True})

    async def _keep(self, number: int, first: asyncio.Future[None]) -> None:
        """Run one, again when it ends, until all are stopped."""
        while not self._stopping:
            code = await self._run(number, first)
            if self._stopping:
                break
            if not first.done():
                first.set_exception(
                    StartError(f"worker {number} ended at once with {code}; its words are above.")
                )
                return
            log.error("worker.died number=%d code=%d", number, code)
            await asyncio.sleep(_PAUSE_S)
        if not first.done():
            first.set_result(None)

    async def _run(self, number: int, first: asyncio.Future[None]) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            given = {"channel": theirs, **self._sockets}
            numbers = {name: sock.fileno() for name, sock in given.items()}
            told = {"sockets": numbers, "tally": (self._memory, number, self._count)}
            env = {**os.environ, ENVIRONMENT: json.dumps(told)}
            for secret in ("CONFIGPROXY_AUTH_TOKEN", "CONFIGPROXY_AUTH_TOKEN_FILE", "HIMALIA_HUB_TOKEN"):
                env.pop(secret, None)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "himalia_proxy", *self._argv,
                stdin=asyncio.subprocess.DEVNULL, env=env, pass_fds=(self._memory, *numbers.values()),
            )  # fmt: skip

        def ready() -> None:
            log.info("worker.ready number=%d pid=%d", number, process.pid)
            if not first.done():
                first.set_result(None)

        member = await self._members.add(ours, ready=ready, lost=lambda: None)
        member.stuck = process.kill
        member.channel.send({"table": {entry.path: shown(entry) for entry in self._table}})
        return await process.wait()
