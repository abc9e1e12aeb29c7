"""A proxy whose calls are timed; what they do and say is its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import Histogram

from himalia_hub.metrics.figures import Figures
from himalia_proxy.base import CutsTunnels, Moves, Proxy, ProxyError, Route


@contextmanager
def timed(figure: Histogram) -> Iterator[None]:
    """Observe how long the block takes, under `status` success or failure."""
    began, status = perf_counter(), "failure"
    try:
        yield
        status = "success"
    finally:
        figure.labels(status).observe(perf_counter() - began)


class MeasuredProxy:
    """Passes every call on."""

    def __init__(self, proxy: Proxy, figures: Figures) -> None:
        self._proxy, self._figures = proxy, figures

    async def put(self, route: Route) -> None:
        """As the Protocol says."""
        with timed(self._figures.route_puts):
            await self._proxy.put(route)

    async def delete(self, routespec: str) -> None:
        """As the Protocol says."""
        with timed(self._figures.route_deletes):
            await self._proxy.delete(routespec)

    async def get(self, routespec: str) -> Route | None:
        """As the Protocol says."""
        return await self._proxy.get(routespec)

    async def routes(self) -> dict[str, Route]:
        """As the Protocol says."""
        with self._figures.route_polls.time():
            return await self._proxy.routes()

    async def cut(
        self, *, login: str | None = None, route: str | None = None, tokens: Collection[str] = ()
    ) -> int:
        """As CutsTunnels says; none where the proxy cannot."""
        if not isinstance(self._proxy, CutsTunnels):
            return 0
        return await self._proxy.cut(login=login, route=route, tokens=tokens)

    async def move(self, *, api_url: str | None, auth_token: str | None) -> None:
        """As Moves says; a ProxyError where the proxy cannot."""
        if not isinstance(self._proxy, Moves):
            raise ProxyError(f"{type(self._proxy).__name__} cannot be sent to another proxy")
        await self._proxy.move(api_url=api_url, auth_token=auth_token)

    async def close(self) -> None:
        """As the Protocol says."""
        await self._proxy.close()
