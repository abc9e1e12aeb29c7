"""Typed keys of what the application holds: the only way one feature reaches another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from aiohttp import web

from himalia_singleuser.settings import Settings


@dataclass(slots=True)
class Activity:
    """When somebody last did something here. Feeds `api/status`, idle culling and the hub."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    last: datetime = field(default_factory=lambda: datetime.now(UTC))

    def touch(self, when: datetime | None = None) -> None:
        """Move `last` forward to `when` (UTC, now if absent); it never goes back."""
        self.last = max(self.last, when or datetime.now(UTC))


class EventSink(Protocol):
    """Where features tell what happened (schema ids of the Jupyter events)."""

    def emit(self, schema_id: str, data: dict[str, Any]) -> None:
        """Hand the event to all subscribers; never blocks, never raises."""


class KernelCounts(Protocol):
    """What `api/status` asks of the kernels."""

    def kernel_count(self) -> int:
        """Kernels that run."""

    def connection_count(self) -> int:
        """Open channel sockets over all kernels."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. `via_token` requests are exempt from the XSRF and origin rules."""

    username: str
    name: str = ""
    display_name: str = ""
    initials: str | None = None
    avatar_url: str | None = None
    color: str | None = None
    via_token: bool = False


SETTINGS = web.AppKey("SETTINGS", Settings)
ACTIVITY = web.AppKey("ACTIVITY", Activity)
EVENTS: web.AppKey[EventSink] = web.AppKey("EVENTS", EventSink)
KERNEL_COUNTS: web.AppKey[KernelCounts] = web.AppKey("KERNEL_COUNTS", KernelCounts)
IDENTITY = web.RequestKey("IDENTITY", Identity)

MAY_STAY: web.RequestKey[Callable[[], Awaitable[bool]]] = web.RequestKey("MAY_STAY")
"""Whether who made the request may still be here; asked again and again by what a request keeps open."""

SOCKETS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("SOCKETS", set)
"""Every open WebSocket, closed with 1001 when the server stops. A handler adds itself and removes itself."""

SHUTDOWN: web.AppKey[list[Callable[[], None]]] = web.AppKey("SHUTDOWN", list)
"""What `api/shutdown` calls: asking for the end of the process. Empty in an application under test."""
