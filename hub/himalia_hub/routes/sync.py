"""Compare the proxy's table with the rows, again and again, and repair what differs; take activity from it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock, domains
from himalia_hub.db import lease
from himalia_hub.db.prepared import Prepared
from himalia_hub.pace import Bites
from himalia_hub.routes.wanted import Difference, Expected, strays, to_put, to_wake
from himalia_hub.servers import schedule, store
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.view import routespec
from himalia_hub.servers.world import World
from himalia_hub.services import store as store_of_services
from himalia_hub.services.view import service_route
from himalia_hub.users.models import User
from himalia_proxy.base import Proxy, ProxyError, Route

log = structlog.get_logger()

LEASE = "routes"
PAGE = 200
"""Rows that are read and compared at a time, which takes a millisecond or two."""
SPREAD = 0.8
"""That part of the time between two comparisons is what one takes, where there are many rows: nobody feels it then. A
table that was read FRESH_S ago is asked again for what differs, about each route or, of more than FEW, whole.
"""
FRESH_S = 0.5
FEW = 20


async def run(world: World, wake_up: asyncio.Event, owner: str) -> None:
    """Compare every `proxy.check_interval_s`, and at once when `wake_up` is set (the proxy was started again).

    One replica at a time does it: two would take the default route from each other for ever.
    """
    reachable = True
    while True:
        began, every_s = time.monotonic(), world.settings.proxy.check_interval_s
        try:
            if world.together.leaving.is_set():
                wake_up.clear()  # the default route is another hub's now
            elif await _my_turn(world, owner) or wake_up.is_set():
                over_s = 0 if wake_up.is_set() or not reachable else SPREAD * every_s
                wake_up.clear()
                await check(world, Bites(over_s, wake_up))
            if not reachable:
                log.info("proxy.reachable")
            reachable = True
        except (ProxyError, SQLAlchemyError, OSError) as error:
            if reachable:
                log.warning("proxy.not_checked", error=str(error))
            reachable = False
        pause = max(every_s - (time.monotonic() - began), every_s / 10) if reachable else min(1.0, every_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake_up.wait()


async def _my_turn(world: World, owner: str) -> bool:
    if world.db.is_sqlite:  # one replica
        return True
    ttl_s = max(world.settings.servers.lease_s, 2.5 * world.settings.proxy.check_interval_s)
    async with world.db.begin() as db:
        return await lease.take(db, LEASE, owner, now=clock.now(), ttl=timedelta(seconds=ttl_s))


class _Table:
    """The proxy's table as it was read, which gets older while rows are compared with it."""

    def __init__(self, proxy: Proxy) -> None:
        self.routes: dict[str, Route] = {}
        self.is_of_one_moment = True
        self._proxy = proxy
        self._read_s = -math.inf

    @property
    def is_old(self) -> bool:
        """Whether what differs from it may well have been changed since."""
        return time.monotonic() - self._read_s > FRESH_S

    async def read(self) -> None:
        """All of it, as it is now."""
        began = time.monotonic()
        self.routes = dict(await self._proxy.routes())
        self._read_s = began

    async def look_again(self, specs: Collection[str]) -> None:
        """These are as they are now, and maybe all others."""
        self.is_of_one_moment = False
        if len(specs) > FEW:
            await self.read()
            return
        for spec in specs:
            route = await self._proxy.get(spec)
            if route is None:
                self.routes.pop(spec, None)
            else:
                self.routes[spec] = route


async def check(world: World, bites: Bites | None = None) -> Difference:
    """One comparison and its repairs; what was found. Bites with rests spread it, where there are many rows."""
    began, bites = time.monotonic(), bites or Bites()
    try:
        found = await _check(world, bites) or await _check(world, Bites())
        assert found is not None
        return found
    finally:
        world.figures.route_checks.observe(time.monotonic() - began - bites.rested_s)


async def _check(world: World, bites: Bites) -> Difference | None:
    """The same; None when there may be routes of nobody, which only a comparison without rests takes away."""
    # The table is read before the rows: a server published in between is then missing from the table, which only
    # makes its row look again, and never a route whose row is not known yet.
    table = _Table(world.proxy)
    await table.read()
    fixed = [hub_route(world), *await _service_routes(world)]
    put = to_put(fixed, table.routes)
    for route in put:
        await world.proxy.put(route)
    known, woken = set[str](), list[str]()
    async for rows in _pages(world, bites):
        known |= rows.keys()
        different = to_wake(_expected(rows), table.routes)
        if different and bites.over_s and table.is_old:
            ids = [rows[one.routespec].id for one in different]
            await table.look_again([one.routespec for one in different])
            different = to_wake(_expected(await _named(world, ids)), table.routes)
        if different:
            woken += await _wake(world, different)
        if moved := _moved(rows, table.routes):
            await world.db.begin_in_one(partial(_touch, moved))
    stray = strays(fixed, known, table.routes)
    if stray and bites.over_s and (table.is_old or not table.is_of_one_moment):
        await table.look_again(stray)
        if strays(fixed, known, table.routes):
            return None
        stray = ()
    for spec in stray:
        log.warning("route.removed", routespec=spec, why="no such server")
        await world.proxy.delete(spec)
    world.looks.routes = clock.now()
    if stray:
        world.looks.cleared, world.looks.stray = world.looks.routes, list(stray)
    return Difference(put, stray, tuple(woken))


def hub_route(world: World) -> Route:
    """The default route: everything that is no server's goes to the hub."""
    return Route(domains.hub_route(world.settings), world.hub_url, {"jupyterhub": True, "hub": True})


async def _service_routes(world: World) -> list[Route]:
    async with world.db.read() as db:
        services = await store_of_services.all_of(db)
    routes = (service_route(world.settings, service) for service in services)
    return [route for route in routes if route is not None]


async def _wake(world: World, different: Sequence[Expected]) -> list[str]:
    """Have the reconciler look at these servers; their names for the spawner."""
    names = [one.backend_name for one in different]
    log.warning("route.differs", servers=names)
    async with world.db.begin() as db:
        ids = await schedule.wake(db, names, now=clock.now())
    for server_id in ids:
        world.doorbell.ring(server_id)
    return names


_READY = sa.and_(
    Server.phase == Phase.READY,
    Server.desired == Desired.RUNNING,
    Server.generation <= Server.acted_generation,
    Server.unknown_since.is_(None),
)
"""As `servers.view.ready`, where the database can say it: of 10,000 rows that saves reading five columns each."""
_LOOKED_AT = sa.select(
    Server.id, Server.name, User.name.label("username"), Server.backend_name, Server.url, Server.last_activity,
    _READY.label("ready"), Server.due_at.is_(None).label("settled"),
).join(User, User.id == Server.user_id)  # fmt: skip
"""What a comparison looks at. Whole servers as objects, read on the event loop, held it for a second with 5,000."""
_NEXT = Prepared(
    _LOOKED_AT.where(Server.id > sa.bindparam("after_id")).order_by(Server.id).limit(sa.bindparam("most"))
)
_NAMED = _LOOKED_AT.where(Server.id.in_(sa.bindparam("ids", expanding=True)))


class _Row(NamedTuple):
    id: int
    name: str
    username: str
    backend_name: str
    url: str
    last_activity: datetime | None
    ready: bool
    settled: bool


_Rows = Mapping[str, _Row]
"""By the routespec that each of them should have."""


async def _pages(world: World, bites: Bites) -> AsyncIterator[_Rows]:
    """All rows, PAGE at a time: whoever else wants to read, or to run, does so in between.

    They are of several moments, which does no harm: each row is compared by itself, and none that stays is left out.
    """

    async def look(db: AsyncSession) -> list[_Row]:
        return [_Row(*row) for row in await db.run_sync(_NEXT.rows, {"after_id": after_id, "most": PAGE})]

    async with world.db.read() as db:
        number = math.ceil((await db.scalar(sa.select(sa.func.count(Server.id))) or 0) / PAGE)
    after_id = 0
    while page := await world.db.read_in_one(look):
        yield _by_route(world, page)
        after_id = page[-1].id
        if len(page) == PAGE:
            await bites.rest(number)


async def _named(world: World, ids: Sequence[int]) -> _Rows:
    async def look(db: AsyncSession) -> list[_Row]:
        return [_Row(*row) for row in await db.execute(_NAMED, {"ids": ids})]

    return _by_route(world, await world.db.read_in_one(look))


def _by_route(world: World, rows: Iterable[_Row]) -> _Rows:
    return {routespec(world.settings, row.username, row.name): row for row in rows}


def _expected(rows: _Rows) -> Iterator[Expected]:
    return (Expected(spec, row.backend_name, row.url, row.ready, row.settled) for spec, row in rows.items())


def _moved(rows: _Rows, table: Mapping[str, Route]) -> list[tuple[int, datetime]]:
    """The proxy sees traffic that no server reports (official servers report every 5 minutes only)."""
    moved: list[tuple[int, datetime]] = []
    for spec, row in rows.items():
        at = table[spec].data.get("last_activity") if spec in table else None
        if not isinstance(at, str):
            continue
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(at)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            last = row.last_activity
            # Below this resolution every open page would cost a write at each comparison.
            if last is None or (moment - last).total_seconds() >= 30:
                moved.append((row.id, min(moment, clock.now())))
    return moved


async def _touch(moved: Sequence[tuple[int, datetime]], db: AsyncSession) -> None:
    for server_id, moment in moved:
        await store.touch(db, server_id, moment)
