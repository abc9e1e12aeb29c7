"""One hub among several: it says that it is there, hears what it is asked, and lets another take over before it ends.

SQLite has one hub, and none of this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from himalia_hub import clock, domains
from himalia_hub.db import lease
from himalia_hub.errors import ConfigError
from himalia_hub.replicas import store
from himalia_hub.replicas.models import Replica
from himalia_hub.routes.sync import LEASE
from himalia_hub.servers.world import World
from himalia_proxy.base import ProxyError

log = structlog.get_logger()

BEAT_S = 5.0
SEEN_S = 30.0
"""How long a hub counts as there after its last beat: a busy machine's may come late."""
HANDOVER_S = 30.0
"""The longest that one which ends waits for another to take the way in. That one is woken, so it takes milliseconds."""
ANSWERS_S = 10.0
ON_THEIR_WAY_S = 1.0
"""Requests that the proxy had sent when the route moved are on their way for so long at the most."""

Reload = Callable[[], Awaitable[dict[str, Any]]]
"""Reads the configuration; what came of it, refusals included."""


async def check(world: World) -> None:
    """ConfigError when hubs on this database have settings that must be the same for all, and are not."""
    if world.db.is_sqlite:
        return
    async with world.db.read() as db:
        there = await store.others(db, "", now=clock.now())
    for other in there:
        if other.url == world.hub_url:
            continue  # this one's predecessor, which was killed
        if other.hub_id != world.secrets.hub_id:
            raise ConfigError(
                f"the hub at {other.url} on this database has another secret: nobody's sign-in and no server's token "
                "would count at both; name a copy of its file in hub.secret_file"
            )
        if other.base_url != (here := domains.site_of(world.settings)):
            raise ConfigError(
                f"the hub at {other.url} on this database has {other.base_url!r} as subdomain_host and base_url, "
                f"this one {here!r}; give all hubs the same"
            )


async def join(world: World, name: str) -> None:
    """Be there for the others from now on."""
    world.together.name = name
    if world.db.is_sqlite:
        return
    async with world.db.begin() as db:
        await store.forget(db, name, now=clock.now())
        db.add(
            Replica(
                name=name,
                url=world.hub_url,
                hub_id=world.secrets.hub_id,
                base_url=domains.site_of(world.settings),
                seen_until=clock.now() + timedelta(seconds=SEEN_S),
            )
        )


async def run(world: World, routes_wake_up: asyncio.Event, reload: Reload) -> None:
    """Beat, and do what is asked, until cancelled. `routes_wake_up` is set when another hub leaves."""
    if world.db.is_sqlite:
        return
    heard = world.together.heard
    while True:
        heard.clear()
        try:
            asked = await _beat(world, routes_wake_up)
            if asked is not None:
                said = await reload()
                async with world.db.begin() as db:
                    await store.answer(db, world.together.name, asked, said)
        except (SQLAlchemyError, OSError) as error:
            log.warning("hub.not_announced", error=type(error).__name__)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT_S):
                await heard.wait()


async def _beat(world: World, routes_wake_up: asyncio.Event) -> int | None:
    """The number of a question that is not answered yet."""
    name, now = world.together.name, clock.now()
    async with world.db.begin() as db:
        seen = await db.execute(
            sa.update(Replica)
            .where(Replica.name == name)
            .values(seen_until=now + timedelta(seconds=SEEN_S))
            .returning(Replica.reload_asked, Replica.reload_taken)
        )
        row = seen.one_or_none()
        if any(other.leaving for other in await store.others(db, name, now=now)):
            routes_wake_up.set()
    if row is None:  # taken for dead by another, while this machine slept
        await join(world, name)
        return None
    return int(row[0]) if row[0] > row[1] else None


async def leave(world: World) -> None:
    """Begin no more work, and wait until the proxy sends people to another hub, where there is one."""
    world.together.leaving.set()
    world.doorbell.ring_all()
    if world.db.is_sqlite or not world.together.name:
        return
    with contextlib.suppress(SQLAlchemyError, OSError, ProxyError, TimeoutError):
        async with asyncio.timeout(HANDOVER_S):
            if await _told_somebody(world):
                while _is_ours(world, await world.proxy.get(domains.hub_route(world.settings))):
                    await asyncio.sleep(0.02)
                await asyncio.sleep(ON_THEIR_WAY_S)
                log.info("hub.handed_over")


def _is_ours(world: World, route: Any) -> bool:
    return route is not None and route.target == world.hub_url


async def _told_somebody(world: World) -> bool:
    """Whether there is another hub that was told. One that was killed has a row for a while, and does not answer."""
    name = world.together.name
    async with world.db.begin() as db:
        await db.execute(sa.update(Replica).where(Replica.name == name).values(leaving=True))
        await db.execute(
            sa.delete(lease.JobLease).where(lease.JobLease.name == LEASE, lease.JobLease.owner == name)
        )
        await store.call(db)
        there = await store.others(db, name, now=clock.now())
    urls = {other.url for other in there if not other.leaving} - {world.hub_url}
    asked = (world.probe.answers(url, world.settings.hub_prefix, timeout_s=ANSWERS_S) for url in urls)
    return any(await asyncio.gather(*asked))
