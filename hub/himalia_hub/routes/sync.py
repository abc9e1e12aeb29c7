"""Compare the proxy's table with the rows, again and again, and repair what differs; take activity from it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock, domains
from himalia_hub.db import lease
from himalia_hub.routes.wanted import Difference, Expected, difference, to_wake
from himalia_hub.servers import store
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.view import routespec
from himalia_hub.servers.world import World
from himalia_hub.services import store as store_of_services
from himalia_hub.services.view import service_route
from himalia_hub.users.models import User
from himalia_proxy.base import ProxyError, Route

log = structlog.get_logger()

LEASE = "routes"
PAGE = 500
"""Rows that are read and compared at a time."""

_Row = sa.Row[*tuple[Any, ...]]


async def run(world: World, wake_up: asyncio.Event, owner: str) -> None:
    """Compare every `proxy.check_interval_s`, and at once when `wake_up` is set (the proxy was started again).

    One replica at a time does it: two would take the default route from each other for ever.
    """
    reachable = True
    while True:
        try:
            if world.together.leaving.is_set():
                wake_up.clear()  # the default route is another hub's now
            elif await _my_turn(world, owner) or wake_up.is_set():
                wake_up.clear()
                with world.figures.route_checks.time():
                    await check(world)
            if not reachable:
                log.info("proxy.reachable")
            reachable = True
        except (ProxyError, SQLAlchemyError, OSError) as error:
            if reachable:
                log.warning("proxy.not_checked", error=str(error))
            reachable = False
        pause = (
            world.settings.proxy.check_interval_s
            if reachable
            else min(1.0, world.settings.proxy.check_interval_s)
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake_up.wait()


async def _my_turn(world: World, owner: str) -> bool:
    if world.db.is_sqlite:  # one replica
        return True
    ttl_s = max(world.settings.servers.lease_s, 2.5 * world.settings.proxy.check_interval_s)
    async with world.db.begin() as db:
        return await lease.take(db, LEASE, owner, now=clock.now(), ttl=timedelta(seconds=ttl_s))


async def check(world: World) -> Difference:
    """One comparison and its repairs; what was found."""
    # The table is read before the rows: a server published in between is then missing from the table, which only
    # makes its row look again, and never a route whose row is not known yet.
    table = await world.proxy.routes()
    fixed = [hub_route(world), *await _service_routes(world)]
    known, wake, moved = set[str](), list[str](), list[tuple[int, datetime]]()
    async for page in _pages(world):
        rows = {routespec(world.settings, row.username, row.name): row for row in page}
        wake += to_wake((_expected(spec, row) for spec, row in rows.items()), table)
        moved += _moved(rows, table)
        known |= rows.keys()
    found = difference(fixed, known, wake, table)
    for route in found.put:
        await world.proxy.put(route)
    for spec in found.delete:
        log.warning("route.removed", routespec=spec, why="no such server")
        await world.proxy.delete(spec)
    world.looks.routes = clock.now()
    if found.delete:
        world.looks.cleared, world.looks.stray = world.looks.routes, list(found.delete)
    if found.wake:
        log.warning("route.differs", servers=list(found.wake))
        async with world.db.begin() as db:
            ids = await store.wake(db, found.wake, now=clock.now())
        for server_id in ids:
            world.doorbell.ring(server_id)
    for start in range(0, len(moved), PAGE):
        await world.db.begin_in_one(partial(_touch, moved[start : start + PAGE]))
    return found


def hub_route(world: World) -> Route:
    """The default route: everything that is no server's goes to the hub."""
    return Route(domains.hub_route(world.settings), world.hub_url, {"jupyterhub": True, "hub": True})


async def _service_routes(world: World) -> list[Route]:
    async with world.db.read() as db:
        services = await store_of_services.all_of(db)
    routes = (service_route(world.settings, service) for service in services)
    return [route for route in routes if route is not None]


_READY = sa.and_(
    Server.phase == Phase.READY,
    Server.desired == Desired.RUNNING,
    Server.generation <= Server.acted_generation,
    Server.unknown_since.is_(None),
)
"""As `servers.view.ready`, where the database can say it: of 10,000 rows that saves reading five columns each."""
_READ = (
    sa.select(
        Server.id, Server.name, Server.backend_name, Server.url, Server.last_activity,
        _READY.label("ready"), Server.due_at.is_(None).label("settled"), User.name.label("username"),
    )
    .join(User, User.id == Server.user_id)
    .where(Server.id > sa.bindparam("after_id"))
    .order_by(Server.id)
    .limit(sa.bindparam("most"))
)  # fmt: skip
"""What a comparison looks at. Whole servers as objects, read on the event loop, held it for a second with 5,000."""


async def _pages(world: World) -> AsyncIterator[Sequence[_Row]]:
    """All rows, PAGE at a time: whoever else wants to read, or to run, does so in between.

    They are of several moments, which does no harm: each row is compared by itself, and none that stays is left out.
    """

    async def look(db: AsyncSession) -> Sequence[_Row]:
        return (await db.execute(_READ, {"after_id": after_id, "most": PAGE})).all()

    after_id = 0
    while page := await world.db.read_in_one(look):
        yield page
        after_id = page[-1].id


def _expected(spec: str, row: _Row) -> Expected:
    return Expected(spec, row.backend_name, row.url, row.ready, row.settled)


def _moved(rows: Mapping[str, _Row], table: Mapping[str, Route]) -> list[tuple[int, datetime]]:
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
