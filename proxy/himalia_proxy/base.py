"""All that a hub needs to know of proxies: the Protocol and the route that crosses it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


class ProxyError(Exception):
    """The proxy could not be asked, or refused; `str()` says which call and why."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests under a prefix go.

    `routespec` begins with `/` (or with a host, where host routing is on), is percent-decoded, and ends
    with `/`. `target` is `http://host:port` or `http+unix://%2Fsocket`; the prefix stays in the forwarded
    path. `data` comes back as it was given.
    """

    routespec: str
    target: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Proxy(Protocol):
    """The routing table of a proxy. Every call may raise ProxyError; every call may be repeated."""

    async def put(self, route: Route) -> None:
        """Add the route, or replace the one with its routespec."""

    async def delete(self, routespec: str) -> None:
        """Remove the route. Not being there is success."""

    async def get(self, routespec: str) -> Route | None:
        """The route with exactly this routespec."""

    async def routes(self) -> dict[str, Route]:
        """The whole table by routespec. `data` includes `last_activity` (ISO 8601) where the proxy tells."""

    async def close(self) -> None:
        """Close connections to the proxy; the proxy goes on."""


@runtime_checkable
class Moves(Protocol):
    """A client that can be sent to another proxy while it is used."""

    async def move(self, *, api_url: str | None, auth_token: str | None) -> None:
        """Speak to the API at this address, with this token; None keeps what was. ProxyError, and nothing has changed,
        when no proxy answers there.
        """


@runtime_checkable
class CutsTunnels(Protocol):
    """A proxy that can end open WebSockets; not every one can."""

    async def cut(
        self, *, login: str | None = None, route: str | None = None, tokens: Collection[str] = ()
    ) -> int:
        """Cut the tunnels of a browser sign-in (the value of its session cookie), of a routespec, or of requests with
        these tokens (SHA-256 of each in hex): those that fit all that is said; how many. May raise ProxyError.
        """
