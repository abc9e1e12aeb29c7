"""What the connections of one process share: table, pool, pages, and the tick that enforces deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from himalia_proxy.access import AccessLog
from himalia_proxy.counts import Counts
from himalia_proxy.framing import MAX_HEAD
from himalia_proxy.headers import ForwardRules
from himalia_proxy.serving import Connections
from himalia_proxy.table import RouteTable
from himalia_proxy.tally import Tally
from himalia_proxy.tunnel import End, Tunnels
from himalia_proxy.upstream import Pool

TICK_S: Final = 0.5
CLOSE_S: Final = 1.0

log = logging.getLogger("himalia.proxy")


@dataclass(frozen=True)
class Limits:
    """Times in seconds and sizes in bytes; 0 for no limit."""

    keep_alive_s: float = 5.0
    client_silent_s: float = 0.0
    target_silent_s: float = 0.0
    half_open_s: float = 60.0
    most_head: int = MAX_HEAD
    most_body: int = 0
    per_address: int = 0


class Core:
    """One per process; every connection holds it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        table: RouteTable,
        pool: Pool,
        rules: ForwardRules,
        limits: Limits,
        *,
        tally: Tally | None = None,
        access: AccessLog | None = None,
        login_cookie: bytes = b"jupyterhub-session-id",
    ) -> None:
        self.loop = loop
        self.table = table
        self.pool = pool
        self.rules = rules
        self.limits = limits
        self.access = access
        self.login_cookie = login_cookie
        self.clients = Connections(
            keep_alive_s=limits.keep_alive_s,
            most_head=limits.most_head,
            per_address=limits.per_address,
            tally=tally,
        )
        self.api_clients = Connections(keep_alive_s=75.0)
        self.tunnels = Tunnels(half_open_s=limits.half_open_s)
        self.counts = Counts()
        self.ticks: list[Callable[[float], None]] = []
        self._timer = loop.call_later(TICK_S, self._tick)

    def gauges(self) -> dict[str, float]:
        """What is open and kept now, for Prometheus."""
        return {
            "connections": len(self.clients.open),
            "tunnels": len(self.tunnels),
            "target_connections": len(self.pool.open),
            "routes": len(self.table),
            "tasks": len(asyncio.all_tasks(self.loop)),
        }

    def apply(self, change: dict[str, dict[str, Any]]) -> None:
        """A change of the table, as the API reports them."""
        for kind, routes in change.items():
            self.table.update(routes, time.time(), whole=kind == "whole")

    def _tick(self) -> None:
        now = self.loop.time()
        self.clients.tick(now)
        self.api_clients.tick(now)
        self.pool.tick(now, answer_within_s=self.limits.target_silent_s)
        if self.access is not None:
            self.access.flush()
        for tick in self.ticks:
            tick(now)
        self._timer = self.loop.call_later(TICK_S, self._tick)

    async def stop(self, *, drain_s: float, tunnels_s: float, hurry: asyncio.Event) -> None:
        """Close everything: requests get `drain_s` seconds to end, tunnels `tunnels_s`; none, once `hurry` is set."""
        now = self.loop.time
        self.clients.drain(now())
        self.api_clients.drain(now())
        requests_until, tunnels_until = now() + drain_s, now() + tunnels_s
        while not hurry.is_set() and (
            ((self.clients.open or self.api_clients.open) and now() < requests_until)
            or (len(self.tunnels) and now() < tunnels_until)
        ):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), 0.05)
        await self._close_all(hurry)
        self._timer.cancel()
        if self.access is not None:
            self.access.flush()

    async def _close_all(self, hurry: asyncio.Event) -> None:
        for connection in [*self.clients.open, *self.api_clients.open]:
            connection.transport.abort()
        # What a tunnel holds still leaves, and then its end is said: a reset would take the last words along.
        for end in (End.leave, End.close):
            for tunnel in self.tunnels:
                end(tunnel)
            until = self.loop.time() + CLOSE_S
            while len(self.tunnels) and self.loop.time() < until and not hurry.is_set():
                await asyncio.sleep(0.01)
        for tunnel in self.tunnels:
            tunnel.abort()
        self.pool.close()
        await asyncio.sleep(0)
