"""What the connections of one process share: table, pool, pages, and the tick that enforces deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from himalia_proxy.counts import Counts
from himalia_proxy.headers import ForwardRules
from himalia_proxy.serving import Connections
from himalia_proxy.table import RouteTable
from himalia_proxy.tunnel import End
from himalia_proxy.upstream import Pool

TICK_S = 0.5

log = logging.getLogger("himalia.proxy")


class Core:
    """One per process; every connection holds it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        table: RouteTable,
        pool: Pool,
        rules: ForwardRules,
        *,
        keep_alive_s: float = 5.0,
        client_timeout_s: float = 0.0,
        target_timeout_s: float = 0.0,
    ) -> None:
        self.loop = loop
        self.table = table
        self.pool = pool
        self.rules = rules
        self.clients = Connections(keep_alive_s=keep_alive_s)
        self.api_clients = Connections(keep_alive_s=75.0)
        self.tunnels: set[End] = set()
        self.counts = Counts()
        self.client_timeout_s = client_timeout_s
        self._target_timeout_s = target_timeout_s
        self._timer = loop.call_later(TICK_S, self._tick)

    def gauges(self) -> dict[str, float]:
        """What is open and kept now, for Prometheus."""
        return {
            "connections": len(self.clients.open),
            "tunnels": len(self.tunnels),
            "target_connections": len(self.pool.open),
            "routes": len(self.table),
        }

    def _tick(self) -> None:
        now = self.loop.time()
        self.clients.tick(now)
        self.api_clients.tick(now)
        self.pool.tick(now, answer_within_s=self._target_timeout_s)
        self._timer = self.loop.call_later(TICK_S, self._tick)

    async def stop(self, *, drain_s: float, hurry: asyncio.Event) -> None:
        """Let requests end for at most `drain_s` seconds or until `hurry` is set, then close everything."""
        self.clients.drain()
        self.api_clients.drain()
        deadline = self.loop.time() + drain_s
        while (
            (self.clients.open or self.api_clients.open)
            and self.loop.time() < deadline
            and not hurry.is_set()
        ):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), 0.05)
        self._timer.cancel()
        for tunnel in list(self.tunnels):
            tunnel.close()
        for connection in [*self.clients.open, *self.api_clients.open]:
            connection.transport.abort()
        self.pool.close()
        await asyncio.sleep(0.05 if self.tunnels else 0)
        for tunnel in list(self.tunnels):
            tunnel.abort()
