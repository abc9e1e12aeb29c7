"""Does what the rows of `replicas/cuts.py` say: has the proxies cut the open WebSockets of who is out.

Every hub does every row, at the proxies that follow it and at the first one too: whoever wrote it may have died before.
Who is cut twice and may still be there comes back twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import accounts
from himalia_hub.auth.accounts import Ended
from himalia_hub.keys import DB, PROXY, SETTINGS, TOGETHER
from himalia_hub.oauth.provider import ServerClient
from himalia_hub.oauth.store import clients
from himalia_hub.rbac import rights
from himalia_hub.replicas import cuts
from himalia_hub.replicas.cuts import EVERY_S
from himalia_hub.replicas.models import CutRow
from himalia_hub.routes.feed import AGAIN_S as FOLLOWERS_S
from himalia_hub.routes.feed import Feed
from himalia_hub.servers import view as servers
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.services import view as services
from himalia_hub.settings import HubSettings
from himalia_hub.users.models import User
from himalia_proxy.base import CutsTunnels, ProxyError

log = structlog.get_logger()

AGAIN_S = 3.5
"""Official servers go by what they were told for 3 s at best: who came back at once by that is cut once more then."""
LATE_S: Final = 120.0
"""No transaction takes longer: after that nothing turns up with a lower number than one that was seen."""
PATIENCE_S: Final = 600.0
"""So long a first proxy that is away is tried again. One that was started anew holds nothing open."""
_BEHIND: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Cut:
    """What a proxy is asked: those of a browser sign-in, of a route, of tokens (their hashes); of all that is said."""

    login: str | None = None
    route: str | None = None
    tokens: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Put:
    """Who is out: these sign-ins and tokens; all that these people and services (ids) hold, who stay and have lost a
    right; `everybody`. On one route, or wherever.

    People who have `left` these groups (names) may have been visited by who may do so to their members.
    """

    ended: Sequence[Ended] = ()
    people: Collection[int] = ()
    services: Collection[int] = ()
    everybody: bool = False
    route: str | None = None
    left: Collection[int] = ()
    groups: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(self.ended or self.people or self.services or self.everybody or self.left)

    def as_json(self) -> dict[str, Any]:
        """As it stands in a row."""
        ended = [[one.session_id, sorted(one.clients), sorted(one.tokens)] for one in self.ended]
        said = {
            "ended": ended,
            "people": sorted(self.people),
            "services": sorted(self.services),
            "left": sorted(self.left),
            "groups": sorted(self.groups),
        }
        return {key: value for key, value in said.items() if value} | {
            "everybody": self.everybody,
            "route": self.route,
        }

    @classmethod
    def read(cls, what: Mapping[str, Any]) -> Put:
        """From a row."""
        ended = [Ended(one, frozenset(at), frozenset(tokens)) for one, at, tokens in what.get("ended", ())]
        people, programs = what.get("people", ()), what.get("services", ())
        left, groups = what.get("left", ()), what.get("groups", ())
        return cls(ended, people, programs, bool(what.get("everybody")), what.get("route"), left, groups)


async def asked_of_proxies(app: web.Application, put: Put) -> list[Cut]:
    """What the proxies are to be asked.

    At hosts of their own they see no cookie of a sign-in. There everybody's WebSockets are cut on the routes of the
    servers and services that knew these; who may still be there comes back by themselves.
    """
    ended, route, found = list(put.ended), put.route, list[Cut]()
    if put.people or put.services:
        async with app[DB].read() as db:
            ended += await accounts.reach_of(db, put.people, put.services)
    known_at: set[str] = set()
    tokens: set[str] = set()
    for each in ended:
        if each.session_id:
            found.append(Cut(each.session_id, route))
        known_at |= each.clients
        tokens |= each.tokens
    if tokens:
        found.append(Cut(None, route, frozenset(tokens)))
    if put.everybody and route is not None:
        found.append(Cut(route=route))
    elif app[SETTINGS].subdomain_host and known_at:
        async with app[DB].read() as db:
            beside = sorted(await routes_of(db, app[SETTINGS], known_at))
        found += [Cut(route=one) for one in beside if route in (None, one)]
    if put.left:
        found += [Cut(route=one) for one in await _visited(app, put)]
    return found


async def _visited(app: web.Application, put: Put) -> list[str]:
    """Routes of the servers of people who left groups whose members' servers somebody may come into."""
    settings = app[SETTINGS]
    async with app[DB].read() as db:
        if not await rights.lead_to_members(db, put.groups, settings.rules):
            return []
        theirs = sa.select(User.name, Server.name).join(Server, Server.user_id == User.id)
        rows = await db.execute(theirs.where(User.id.in_(put.left), Server.phase != Phase.STOPPED))
        return sorted(servers.routespec(settings, user, name) for user, name in rows)


async def routes_of(db: AsyncSession, settings: HubSettings, client_ids: Iterable[str]) -> set[str]:
    """Where the servers and services of these ids, which can be ambiguous, are routed."""
    found = [each for name in client_ids for each in await clients(db, name, settings)]
    return {
        servers.routespec(settings, each.username, each.server_name)
        if isinstance(each, ServerClient)
        else services.routespec(settings, each.service_name)
        for each in found
    }


async def tell(
    app: web.Application, wanted: Iterable[Cut], *, first: bool = True, also: bool = True
) -> int | None:
    """Have cut, at the `first` proxy and at those that follow this hub (`also`): how many there were, None where the
    first cannot be asked, which is logged.
    """
    proxy, count, away = app.get(PROXY), 0, False
    if isinstance(proxy, Feed):
        cut = (proxy.cut if also else proxy.cut_at_first) if first else proxy.cut_at_followers
    elif isinstance(proxy, CutsTunnels) and first:
        cut = proxy.cut
    else:
        return 0
    for one in wanted:
        try:
            count += await cut(login=one.login, route=one.route, tokens=one.tokens)
        except ProxyError as error:
            log.warning("tunnels.not_cut", cause=str(error))
            away = True
    if not away:
        log.info("tunnels.cut", count=count)
    return None if away else count


def behind(work: Any, name: str) -> None:
    """Do it while others go on."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _BEHIND.add(task)
    task.add_done_callback(_BEHIND.discard)


async def once_more(app: web.Application, wanted: Sequence[Cut], *, first: bool = True) -> None:
    """After AGAIN_S: those who came back by what an official server remembered."""
    await asyncio.sleep(AGAIN_S)
    await tell(app, [one for one in wanted if one.login or one.tokens], first=first)


class Cutter:
    """One hub's hand. Each row is done once, by whoever comes first: the request that wrote it, or the loop."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._begun: dict[int, tuple[float, asyncio.Task[None]]] = {}
        self._left: dict[int, tuple[float, list[Cut]]] = {}
        self._finished: set[int] = set()
        self._floor = 0

    async def run(self) -> None:
        """Look when a hub calls, and every EVERY_S, until cancelled."""
        called = self._app[TOGETHER].cuts
        while True:
            called.clear()
            try:
                await self.look()
            except (SQLAlchemyError, OSError) as error:
                log.warning("cuts.not_read", error=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await called.wait()

    async def do(self, row: CutRow) -> None:
        """This one, whose transaction is committed; on return the proxies have cut."""
        await asyncio.shield(self._begin(row.id, row.what, first=True, own=True))

    async def look(self) -> None:
        """Begin what is new, try again what the first proxy could not be told, and write down what is done."""
        db, since = self._app[DB], clock.now() - timedelta(seconds=FOLLOWERS_S)
        for row in await db.read_in_one(partial(cuts.news, floor=self._floor, since=since)):
            self._begin(row.id, row.what, first=not row.done, own=False)
        for row_id, (began, wanted) in list(self._left.items()):
            if await tell(self._app, wanted, also=False) is not None or time.monotonic() - began > PATIENCE_S:
                del self._left[row_id]
                self._finished.add(row_id)
        if self._finished:
            finished = self._finished.copy()
            await db.begin_in_one(partial(cuts.set_done, ids=finished))
            self._finished -= finished
        self._forget()

    async def settle(self) -> None:
        """Look, and wait until all that was begun is cut."""
        await self.look()
        await asyncio.gather(*(task for _, task in self._begun.values()))

    def _begin(self, row_id: int, what: dict[str, Any], *, first: bool, own: bool) -> asyncio.Task[None]:
        if row_id not in self._begun:
            task = asyncio.create_task(self._do(row_id, what, first=first, own=own), name="hub.cut")
            self._begun[row_id] = time.monotonic(), task
        return self._begun[row_id][1]

    async def _do(self, row_id: int, what: dict[str, Any], *, first: bool, own: bool) -> None:
        try:
            wanted = await asked_of_proxies(self._app, Put.read(what))
        except (SQLAlchemyError, OSError) as error:
            log.warning("cuts.not_read", error=type(error).__name__)
            del self._begun[row_id]  # and the next look begins it again
            self._floor = min(self._floor, row_id - 1)
            return
        except (ValueError, TypeError, AttributeError):
            log.warning("cuts.not_understood", row=row_id)
            self._finished.add(row_id)
            return
        count = await tell(self._app, wanted, first=first)
        if count is None:
            self._left[row_id] = time.monotonic(), wanted
        elif count or (first and not own):
            # Whoever wrote it may have died after the first time, having counted what is not counted here.
            behind(self._again(row_id, wanted, first=first), "hub.cut_again")
        elif first:
            self._finished.add(row_id)

    async def _again(self, row_id: int, wanted: Sequence[Cut], *, first: bool) -> None:
        await once_more(self._app, wanted, first=first)
        self._finished.add(row_id)

    def _forget(self) -> None:
        """Rows up to `_floor` are read no more: that far none is missing, or none comes any more."""
        old = [row_id for row_id, (at, _) in self._begun.items() if at < time.monotonic() - LATE_S]
        self._floor = max([self._floor, *old])
        while self._floor + 1 in self._begun:
            self._floor += 1
        for row_id in [one for one in old if self._begun[one][1].done()]:
            del self._begun[row_id]


CUTTER: web.AppKey[Cutter] = web.AppKey("cutter")
