"""One server, step by step, under a lease: observe → decide → act → record, until it rests or must wait."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.servers import leases, steps
from himalia_hub.servers.leases import Lease, LeaseLost
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase, Seen, Situation, Step, next_step
from himalia_hub.servers.world import Observation, World, observe
from himalia_hub.users.models import User

log = structlog.get_logger()

UNREAD_S = 0.25
"""So long at most a wish for a server that starts goes unseen, should it come between a look and the wait after it."""
RECORD_WITHIN_S = 0.05
"""A server that answers this soon is recorded as begun and as ready in one transaction."""
EAGER_S = 2.0
"""So long a starting server is probed without giving the lease back: our own server answers far sooner."""


def back_off_s(attempts: int) -> float:
    """Pause before the next try: full jitter, 1 s doubling to 5 min."""
    return random.uniform(0.1, min(300.0, 2.0**attempts))  # noqa: S311 -- jitter, not a secret


def situation(server: Server, seen: Observation, *, now: datetime, start_timeout_s: float) -> Situation:
    """The facts a decision looks at, from a row and one observation. Pure."""
    fresh = server.desired is Desired.RUNNING and server.generation > server.acted_generation
    age = now - server.phase_since
    waits = seen.sighting is not None and seen.sighting.kept is not None
    return Situation(
        desired=server.desired,
        seen=seen.seen,
        routed=seen.routed,
        fresh=fresh,
        overdue=server.phase is Phase.STARTING and age > timedelta(seconds=start_timeout_s),
        was_ready=server.phase is Phase.READY,
        unwanted=waits and server.phase is Phase.STOPPING,
    )


async def reconcile(lease: Lease, world: World, server: Server, username: str) -> bool:
    """Bring one server, just claimed, to rest, or to where only time can help; whether the lease was given back.

    Safe to repeat, safe to be killed in.
    """
    pause, unrecorded, read_at = 0.01, False, clock.now()
    while True:
        # Nobody but who holds this lease gives it a route; without one, answering can only lead to putting it.
        seen = await observe(world, server, username, surely_unrouted=unrecorded)
        now = clock.now()
        facts = situation(server, seen, now=now, start_timeout_s=world.settings.spawner.start_timeout_s)
        step = next_step(facts)
        log.debug("server.step", user=username, server=server.name, step=step.value, seen=seen.seen.value)
        if unrecorded and step is not Step.PUBLISH and not _may_answer_soon(server, seen, now):
            await steps.record_start(world, lease, server)
            unrecorded = False
        if seen.seen is not Seen.UNKNOWN and server.unknown_since is not None:
            await _known_again(world, lease)
            server.unknown_since = None
        if step is Step.WAIT and seen.seen is not Seen.UNKNOWN:
            if now - server.phase_since >= timedelta(seconds=EAGER_S):
                return await _wait(world, lease, server, seconds=0.3)
            rung = await _wait_a_little(world, server, seen, pause)
            pause = min(pause * 1.5, 0.25)
            if rung or clock.now() - read_at > timedelta(seconds=UNREAD_S):  # nobody may have heard the bell
                if unrecorded:
                    await steps.record_start(world, lease, server)
                    unrecorded = False
                server, username = await _read(world, lease)
                read_at = clock.now()
            continue
        if step is Step.WAIT:
            await _wait_unknown(world, lease, server, why=seen.why)
            return False
        if step is Step.REST:
            if await _rest(world, lease, server, username, seen):
                return True
        elif await _act(step, world, lease, server, username, seen):
            # It has just been seen answering and the proxy has confirmed its route: that is rest.
            if step is Step.PUBLISH:
                if await _rest(world, lease, server, username, seen, unrecorded=unrecorded):
                    return True
                server, username = await _read(world, lease)
            unrecorded = step is Step.START
            # What was just written need not be read again: every further write says which wish it is for, and with
            # a newer one it writes nothing and the row is read.
            continue
        server, username = await _read(world, lease)


def _may_answer_soon(server: Server, seen: Observation, now: datetime) -> bool:
    young = server.started is not None and now - server.started < timedelta(seconds=RECORD_WITHIN_S)
    return young and seen.seen is Seen.SILENT


async def _act(
    step: Step, world: World, lease: Lease, server: Server, username: str, seen: Observation
) -> bool:
    """Do it. True when `server` is still as its row is."""
    match step:
        case Step.START:
            return await steps.start(world, lease, server, username)
        case Step.PUBLISH:
            await steps.publish(world, server, username, seen)
            return True
        case Step.UNPUBLISH:
            await steps.unpublish(world, server, username)
            return True
        case Step.STOP:
            await steps.stop(world, lease, server, seen)
        case Step.STOP_STALE:
            await steps.stop_stale(world, seen)
        case Step.TIME_OUT:
            await steps.time_out(world, lease, server)
        case Step.RECORD_EXIT:
            await steps.record_exit(world, lease, server, seen)
        case Step.REST | Step.WAIT:
            raise AssertionError(step)
    return False


async def _rest(
    world: World, lease: Lease, server: Server, username: str, seen: Observation, *, unrecorded: bool = False
) -> bool:
    if server.desired is Desired.RUNNING:
        settled = await steps.rest_running(world, lease, server, seen, unrecorded=unrecorded)
    else:
        settled = await steps.rest_stopped(world, lease, server, username, seen)
    if settled:
        log.info("server.rests", user=username, server=server.name, desired=server.desired.value)
    return settled


async def _read(world: World, lease: Lease) -> tuple[Server, str]:
    mine = sa.and_(Server.id == lease.server_id, Server.lease_epoch == lease.epoch)
    wanted = sa.select(Server, User.name).join(User, User.id == Server.user_id).where(mine)

    async def look(db: AsyncSession) -> tuple[Server, str] | None:
        found = (await db.execute(wanted)).one_or_none()
        return None if found is None else (found[0], found[1])

    row = await world.db.read_in_one(look)
    if row is None:
        raise LeaseLost(f"server {lease.server_id}")
    return row


async def _wait_a_little(world: World, server: Server, seen: Observation, at_most_s: float) -> bool:
    """Until something happens to the server (True), or it begins to listen, or the time is over."""
    with world.doorbell.watch(server.id) as watch:
        handle = seen.sighting.handle if seen.sighting else None
        rung = asyncio.ensure_future(watch.wait(at_most_s))
        waits: list[asyncio.Future[Any]] = [rung]
        if handle is not None:
            waits.append(asyncio.ensure_future(world.probe.listens_soon(handle.url, within_s=at_most_s)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return rung.done() and rung.result()
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


async def _wait(world: World, lease: Lease, server: Server, *, seconds: float) -> bool:
    values = {"due_at": clock.now() + timedelta(seconds=seconds), **leases.RELEASED}
    return await world.db.write(lambda db: leases.decide(db, lease, server.generation, values))


async def _wait_unknown(world: World, lease: Lease, server: Server, *, why: str) -> None:
    """The outside cannot be asked: keep everything as it is, ask again later and later."""
    log.warning("server.unknown", server_id=server.id, why=why, attempts=server.attempts)
    moment = clock.now()
    due = moment + timedelta(seconds=min(back_off_s(server.attempts), 30.0))

    def later(db: Session) -> None:
        leases.decide(db, lease, server.generation, {"due_at": due, "attempts": server.attempts + 1})
        if server.unknown_since is None:
            leases.record(db, lease, {"unknown_since": moment})

    await world.db.write(later)


async def _known_again(world: World, lease: Lease) -> None:
    await world.db.write(lambda db: leases.record(db, lease, {"unknown_since": None, "attempts": 0}))


async def put_back(world: World, lease: Lease, error: Exception) -> None:
    """A step raised: back off in the row, so that the back-off survives a restart of the hub."""

    def later(db: Session) -> Server | None:
        server = db.get(Server, lease.server_id)
        if server is None or server.lease_epoch != lease.epoch:
            return None
        due = clock.now() + timedelta(seconds=back_off_s(server.attempts))
        leases.decide(db, lease, server.generation, {"due_at": due, "attempts": server.attempts + 1})
        return server

    server = await world.db.write(later)
    if server is None:
        return
    log.warning("server.backs_off", server_id=lease.server_id, error=str(error), attempts=server.attempts + 1)


async def keep_lease(world: World, lease: Lease) -> None:
    """Renew now and every third of its time, until cancelled; LeaseLost ends the work that it is kept for."""
    ttl = world.settings.servers.lease_s
    while True:
        until = clock.now() + timedelta(seconds=ttl)
        await world.db.write(partial(leases.renew, lease=lease, until=until))
        await asyncio.sleep(ttl / 3)
