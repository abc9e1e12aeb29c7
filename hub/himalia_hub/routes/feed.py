"""The proxy's table as a stream, for further proxies that ask this hub for it: `himalia proxy --follow-hub`.

What the hub tells its own proxy is told to them too, and is done when all have it. What other hubs told that proxy is
found by looking at its table now and then, while anybody follows.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from himalia_hub import clock
from himalia_proxy.base import CutsTunnels, Moves, Proxy, ProxyError, Route
from himalia_proxy.client import wire_path

log = structlog.get_logger()

PATIENCE_S: Final = 5.0
_KEPT: Final = 1000
AGAIN_S: Final = 300.0
"""For so long a cut is told to followers that come from elsewhere."""

Table = dict[str, dict[str, Any]]


class Follower:
    """One further proxy, for as long as its stream lasts. `id` is what it reports under."""

    def __init__(self) -> None:
        self.id = secrets.token_urlsafe(16)
        self.gone = False
        self._events: deque[bytes] = deque()
        self._woken = asyncio.Event()
        self._asked: dict[int, asyncio.Future[int]] = {}

    def tell(self, message: Mapping[str, Any], event_id: str = "") -> None:
        """Have it sent."""
        name = f"id: {event_id}\n" if event_id else ""
        self._events.append(f"{name}data: {json.dumps(message, separators=(',', ':'))}\n\n".encode())
        self._woken.set()

    def ask(self, message: Mapping[str, Any], number: int, event_id: str = "") -> asyncio.Future[int]:
        """The same, and what it answers: how many tunnels it has cut, or 0."""
        self._asked[number] = asyncio.get_running_loop().create_future()
        self.tell({**message, "n": number}, event_id)
        return self._asked[number]

    def answered(self, number: int, cut: int) -> None:
        """It has done what it was told."""
        future = self._asked.pop(number, None)
        if future is not None and not future.done():
            future.set_result(cut)

    def end(self) -> None:
        """Its stream ends; nobody waits for it any more."""
        self.gone = True
        self._woken.set()
        for future in self._asked.values():
            if not future.done():
                future.set_result(0)

    async def next(self, at_most_s: float) -> bytes:
        """The events since the last call; nothing if there were none for so long, or if it is gone."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._woken.wait()
        except TimeoutError:
            return b""
        self._woken.clear()
        events = b"".join(self._events)
        self._events.clear()
        return events


class Feed:
    """A Proxy that tells followers, too, what it is told.

    Each change and each cut has a revision, `<hub's start>-<number>`. It is one hub's own: another hub, or this one
    started again, answers with the whole table.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._born = secrets.token_hex(4)
        self._revision = 0
        self._number = 0
        self._table: Table = {}
        self._changes: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT)
        self._cuts: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_KEPT)
        self._followers: dict[str, Follower] = {}
        self._activity: dict[str, float] = {}

    # -- the Protocol

    async def put(self, route: Route) -> None:
        """As the Protocol says."""
        await self._proxy.put(route)
        data = {key: value for key, value in route.data.items() if key != "last_activity"}
        await self._publish({wire_path(route.routespec): data | {"target": route.target}})

    async def delete(self, routespec: str) -> None:
        """As the Protocol says."""
        await self._proxy.delete(routespec)
        await self._publish({wire_path(routespec): None})

    async def get(self, routespec: str) -> Route | None:
        """As the Protocol says."""
        return await self._proxy.get(routespec)

    async def routes(self) -> dict[str, Route]:
        """As the Protocol says; `last_activity` is that through any of the proxies."""
        routes = await (self._compared() if self._followers else self._proxy.routes())
        if not self._activity:
            return routes
        self._activity = {path: at for path, at in self._activity.items() if path in self._table}
        return {spec: self._used(route) for spec, route in routes.items()}

    async def cut(
        self, *, login: str | None = None, route: str | None = None, tokens: Collection[str] = ()
    ) -> int:
        """As CutsTunnels says, at all proxies."""
        there = self.cut_at_followers(login=login, route=route, tokens=tokens)
        here = self.cut_at_first(login=login, route=route, tokens=tokens)
        # Beside each other: a first proxy that is away, or does not answer for ten seconds, keeps nobody in elsewhere.
        cut, found = await asyncio.gather(there, here, return_exceptions=True)
        for one in (found, cut):
            if isinstance(one, BaseException):
                raise one
        return sum(one for one in (found, cut) if isinstance(one, int))

    async def cut_at_first(
        self, *, login: str | None = None, route: str | None = None, tokens: Collection[str] = ()
    ) -> int:
        """The same at the first proxy alone, which was away when the others were told."""
        if not isinstance(self._proxy, CutsTunnels):
            return 0
        return await self._proxy.cut(login=login, route=route, tokens=tokens)

    async def cut_at_followers(
        self, *, login: str | None = None, route: str | None = None, tokens: Collection[str] = ()
    ) -> int:
        """The same where the first proxy was told already. A follower that is away is told when it comes back."""
        asked = {
            "login": login,
            "route": route and wire_path(route),
            "token": ",".join(sorted(tokens)) or None,
        }
        message = {"cut": {name: said for name, said in asked.items() if said is not None}}
        self._cuts.append((time.monotonic(), message))
        self._note(message)
        return await self._ask(message, self._id(self._revision))

    async def move(self, *, api_url: str | None, auth_token: str | None) -> None:
        """As Moves says."""
        if not isinstance(self._proxy, Moves):
            raise ProxyError("this proxy cannot be exchanged")
        await self._proxy.move(api_url=api_url, auth_token=auth_token)

    async def close(self) -> None:
        """As the Protocol says."""
        self.dismiss()
        await self._proxy.close()

    # -- followers

    async def join(self, last_event_id: str) -> Follower:
        """One more: it is told what has changed since that event, or the whole table. ProxyError."""
        await self._compared()  # nobody does while nobody follows: 10,000 routes take 30 ms
        follower = Follower()
        follower.tell({"report": follower.id})
        born, _, number = last_event_id.partition("-")
        since = int(number) if number.isascii() and number.isdigit() else -1
        oldest = self._changes[0][0] if self._changes else self._revision + 1
        if born == self._born and oldest - 1 <= since <= self._revision:
            for revision, message in self._changes:
                if revision > since:
                    follower.tell({**message, "n": 0}, self._id(revision))
        else:
            at = _iso(0.0)  # what was used before is the first proxy's to tell
            table = {path: data | {"last_activity": at} for path, data in self._table.items()}
            follower.tell({"table": table}, self._id(self._revision))
            oldest_cut = time.monotonic() - AGAIN_S  # the follower may come from a hub that has ended
            for moment, message in self._cuts:
                if moment > oldest_cut:
                    follower.tell({**message, "n": 0})
        self._followers[follower.id] = follower
        log.info("proxy.followed", followers=len(self._followers))
        return follower

    def leave(self, follower: Follower) -> None:
        """Its stream has ended."""
        follower.end()
        if self._followers.pop(follower.id, None):
            log.info("proxy.left", followers=len(self._followers))

    def dismiss(self) -> None:
        """End all streams: the hub is about to end."""
        for follower in self._followers.values():
            follower.end()

    def find(self, follower_id: str) -> Follower | None:
        """The one that reports under that name."""
        return self._followers.get(follower_id)

    def active(self, times: Mapping[str, float]) -> None:
        """Routes were used through a follower: path → seconds since the epoch."""
        now = clock.now().timestamp()
        for path, at in times.items():
            if path in self._table:
                self._activity[path] = max(self._activity.get(path, 0.0), min(at, now))

    # -- inside

    def _id(self, revision: int) -> str:
        return f"{self._born}-{revision}"

    def _used(self, route: Route) -> Route:
        at = self._activity.get(wire_path(route.routespec))
        if at is None:
            return route
        known = route.data.get("last_activity")
        if isinstance(known, str) and datetime.fromisoformat(known).timestamp() >= at:
            return route
        return Route(route.routespec, route.target, {**route.data, "last_activity": _iso(at)})

    async def _compared(self) -> dict[str, Route]:
        before = self._revision
        routes = await self._proxy.routes()
        if before == self._revision:  # otherwise what was read is older than what was told
            self._compare(routes)
        return routes

    def _compare(self, routes: Mapping[str, Route]) -> None:
        """Tell followers what is different from what they know, whoever changed it."""
        found = {
            wire_path(spec): {key: value for key, value in route.data.items() if key != "last_activity"}
            | {"target": route.target}
            for spec, route in routes.items()
        }
        change: dict[str, Any] = {path: data for path, data in found.items() if self._table.get(path) != data}
        change |= dict.fromkeys(self._table.keys() - found.keys())
        if change:
            message = self._changed(change)
            for follower in self._followers.values():
                follower.tell({**message, "n": 0}, self._id(self._revision))

    def _note(self, message: dict[str, Any]) -> None:
        self._revision += 1
        self._changes.append((self._revision, message))

    def _changed(self, change: Mapping[str, Any]) -> dict[str, Any]:
        for path, data in change.items():
            if data is None:
                self._table.pop(path, None)
            else:
                self._table[path] = data
        message = {"change": {"put": dict(change)}}
        self._note(message)
        return message

    async def _publish(self, change: Mapping[str, Any]) -> None:
        message = self._changed(change)
        await self._ask(message, self._id(self._revision))

    async def _ask(self, message: Mapping[str, Any], event_id: str = "") -> int:
        """Tell all, and wait for them; who does not answer in time is let go, and comes back for what it missed."""
        if not self._followers:
            return 0
        self._number += 1
        asked = {
            one.ask(message, self._number, event_id): one for one in self._followers.values() if not one.gone
        }
        if not asked:
            return 0
        done, late = await asyncio.wait(asked, timeout=PATIENCE_S)
        for future in late:
            log.warning("proxy.follower_late", patience_s=PATIENCE_S)
            asked[future].end()
        return sum(future.result() for future in done)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
