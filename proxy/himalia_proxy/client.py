"""The hub's view of a proxy: the table over the REST API, ours or configurable-http-proxy's."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

import aiohttp
from yarl import URL

from himalia_proxy.base import CutsTunnels, Moves, Proxy, ProxyError, Route

TIMEOUT_S: Final = 10.0
TOGETHER: Final = 64
"""So many routes are put by one request at most: the first of them waits for the last."""
BITE: Final = 500
"""Routes that are read at a time."""
AT_ONCE: Final = 50
"""Tokens in one address, which proxies take up to some length only."""

_Due = tuple[Route, asyncio.Future[None]]


class HttpProxy:
    """Speaks to the API at `api_url` (`http://host:port`, or `http+unix://%2Fsocket`).

    Routespecs carry a trailing slash here and none on the wire. Nothing is retried: whoever calls knows
    whether it is still worth while.
    """

    def __init__(self, api_url: str, auth_token: str) -> None:
        self._url = api_url.rstrip("/")
        self._token = auth_token
        self._session: aiohttp.ClientSession | None = None
        self._takes_many = True
        self._due: list[_Due] = []
        self._putting: asyncio.Task[None] | None = None

    async def put(self, route: Route) -> None:
        """Add the route, or replace the one with its routespec.

        Those that come while one is being put go together, by the next request: one for each is a twentieth of what a
        start costs a hub. Where the proxy has no call for it (configurable-http-proxy) each goes by itself.
        """
        if not self._takes_many:
            await self._put_one(route)
            return
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._due.append((route, answer))
        if self._putting is None:
            self._putting = asyncio.create_task(self._put_due())
        await answer

    async def delete(self, routespec: str) -> None:
        """Remove the route. Not being there is success."""
        await self._call("DELETE", routespec, expect=(204, 404))

    async def get(self, routespec: str) -> Route | None:
        """The route with exactly this routespec."""
        if wire_path(routespec) == "/":
            # For the root the API answers with the whole table.
            return (await self.routes()).get("/")
        _, data = await self._call("GET", routespec, expect=(200, 404))
        return None if data is None else _route(wire_path(routespec), data)

    async def routes(self) -> dict[str, Route]:
        """The whole table by routespec; `data` includes `last_activity`."""
        _, table = await self._call("GET", "/", expect=(200,))
        if not isinstance(table, dict):
            raise ProxyError(f"GET {self._url}/api/routes was not answered with a table of routes")
        routes: dict[str, Route] = {}
        for number, (path, data) in enumerate(table.items(), 1):
            route = _route(path, data)
            routes[route.routespec] = route
            if number % BITE == 0:  # who asks has other things to do meanwhile
                await asyncio.sleep(0)
        return routes

    async def cut(
        self, *, login: str | None = None, route: str | None = None, tokens: Collection[str] = ()
    ) -> int:
        """Cut open WebSockets; how many there were. 0 too where the proxy has no such call."""
        hashes = sorted(tokens)
        lists = [",".join(hashes[at : at + AT_ONCE]) for at in range(0, len(hashes), AT_ONCE)]
        asked = {"login": login, "route": route and wire_path(route)}
        params = {name: value for name, value in asked.items() if value is not None}
        return sum([await self._cut(params | {"token": one}) for one in lists] or [await self._cut(params)])

    async def _cut(self, params: Mapping[str, str]) -> int:
        base, session = self._open()
        said = f"DELETE {self._url}/api/tunnels"
        try:
            async with session.delete(f"{base}/api/tunnels", params=params) as response:
                if response.status in (404, 405):
                    return 0  # configurable-http-proxy
                if response.status != 200:
                    raise ProxyError(f"{said}: the proxy answered {response.status}")
                answer = await response.json()
                return int(answer["cut"])
        except TimeoutError:
            raise ProxyError(f"{said}: no answer within {TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
            raise ProxyError(f"{said}: {error}") from error

    async def move(self, *, api_url: str | None, auth_token: str | None) -> None:
        """As Moves says."""
        found = HttpProxy(api_url or self._url, auth_token or self._token)
        try:
            await found.routes()
        finally:
            await found.close()
        await self.close()
        self._url, self._token, self._takes_many = found._url, found._token, True

    async def close(self) -> None:
        """Close connections to the proxy; the proxy goes on."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _put_one(self, route: Route) -> None:
        await self._call("POST", route.routespec, _told(route), expect=(201,))

    async def _put_due(self) -> None:
        try:
            while self._due:
                taken, self._due = self._due[:TOGETHER], self._due[TOGETHER:]
                # Who was cancelled may have lost the right to put it: somebody else may have removed it since.
                await self._put_all([one for one in taken if not one[1].done()])
        finally:
            self._putting = None

    async def _put_all(self, due: list[_Due]) -> None:
        try:
            if len(due) > 1 and self._takes_many and await self._put_together([route for route, _ in due]):
                outcomes: list[BaseException | None] = [None] * len(due)
            else:
                alone = (self._put_one(route) for route, _ in due)
                outcomes = await asyncio.gather(*alone, return_exceptions=True)
        except Exception as error:  # whatever it is, nobody waits for ever
            outcomes = [error] * len(due)
        except asyncio.CancelledError:  # the event loop ends
            for _, answer in due:
                answer.cancel()
            raise
        for (_, answer), outcome in zip(due, outcomes, strict=True):
            if answer.done():
                continue
            if outcome is None:
                answer.set_result(None)
            else:
                answer.set_exception(outcome)

    async def _put_together(self, routes: list[Route]) -> bool:
        """False when that cannot be: the proxy has no such call, or refuses one of them and so has put none."""
        said = {wire_path(route.routespec): _told(route) for route in routes}
        status, _ = await self._call("PATCH", "/", said, expect=(204, 400, 404, 405))
        self._takes_many = status not in (404, 405)
        return status == 204

    async def _call(
        self, method: str, routespec: str, body: dict[str, Any] | None = None, *, expect: tuple[int, ...]
    ) -> tuple[int, Any]:
        """The status, with the decoded JSON of a 200, otherwise None; ProxyError for a status that is not expected."""
        base, session = self._open()
        path = wire_path(routespec)
        # The root keeps its slash: configurable-http-proxy never answers a DELETE without a path.
        url = f"{base}/api/routes{quote(path, safe='@/~')}"
        said = f"{method} {self._url}/api/routes{path}"
        try:
            async with session.request(method, URL(url, encoded=True), json=body) as response:
                if response.status not in expect:
                    why = (await response.text(errors="replace")).strip()[:200]
                    raise ProxyError(f"{said}: the proxy answered {response.status} {why or response.reason}")
                told = await response.json(content_type=None) if response.status == 200 else None
                return response.status, told
        except TimeoutError:
            raise ProxyError(f"{said}: no answer within {TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ProxyError(f"{said}: {error}") from error

    def _open(self) -> tuple[str, aiohttp.ClientSession]:
        base, socket = self._url, None
        if base.startswith(("http+unix://", "unix+http://")):
            base, socket = "http://localhost", unquote(base.partition("://")[2])
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(socket) if socket else aiohttp.TCPConnector(limit=10),
                headers={"Authorization": f"token {self._token}"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return base, self._session


def wire_path(routespec: str) -> str:
    """A leading slash also where the routespec begins with a host; no trailing one, but for the root."""
    return "/" + routespec.strip("/")


def _told(route: Route) -> dict[str, Any]:
    return {**route.data, "target": route.target}


def _route(path: str, data: Any) -> Route:
    if not isinstance(data, dict) or not isinstance(data.get("target"), str):
        raise ProxyError(f"the proxy's route {path!r} has no target")
    rest = {name: value for name, value in data.items() if name != "target"}
    return Route(path if path.endswith("/") else path + "/", data["target"], rest)


_fits: type[Proxy] = HttpProxy
_cuts: type[CutsTunnels] = HttpProxy
_moves: type[Moves] = HttpProxy
