"""The loop: claim due servers, work on each in a task of its own, sleep until the next is due or the bell rings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import uuid
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.db import lease as job_leases
from himalia_hub.faults import async_fault
from himalia_hub.replicas import store as replicas
from himalia_hub.servers import leases, queue, resync, schedule
from himalia_hub.servers.leases import Lease, LeaseLost
from himalia_hub.servers.models import Server
from himalia_hub.servers.reconcile import keep_lease, put_back, reconcile
from himalia_hub.servers.world import World
from himalia_proxy.base import ProxyError
from himalia_spawner.errors import BackendGone

log = structlog.get_logger()

CLAIMS = 8
"""At most so many rows are claimed in one transaction: no replica takes all, and none waits long for its work."""
GATHER_S = 0.01
"""While more is due than there are places, so long is waited for further ones: each claim costs a transaction."""
UNLOOKED_S = 0.1
"""So long it is claimed without looking first, and no turn in the queue given, while each claim fills all places."""
FIRST_LOOKS_PER_S = 250
"""A hub that starts looks at what runs at this pace, less than it can; the spawner tells at once what has died."""
LOOKED_AT_S = 0.1
"""How often it is asked whether that is done."""


class Owner:
    """The name of this process in the lease columns, kept in the data folder so that a successor knows it for dead."""

    def __init__(self, data_dir: Path) -> None:
        self.host = socket.gethostname()
        self._path = data_dir / "hub.owner"
        self.name = f"{self.host}/{uuid.uuid4().hex}"

    def predecessor(self) -> str | None:
        """The owner that last ran on this data folder, if its process is gone; it is replaced by this one.

        Only one hub may use a data folder at a time (`cli.hub` holds its lock), so whoever wrote the file is dead.
        """
        with contextlib.suppress(FileNotFoundError):
            last = self._path.read_text().strip()
            self._write()
            return last if last.startswith(self.host + "/") else None
        self._write()
        return None

    def _write(self) -> None:
        scratch = self._path.with_suffix(".new")
        scratch.write_text(self.name)
        os.replace(scratch, self._path)


async def run(world: World, owner: Owner) -> None:
    """Work on due servers until cancelled. Also follows the spawner's own reports of exits."""
    predecessor = owner.predecessor()
    async with world.db.begin() as db:
        if predecessor:
            await schedule.take_back(db, predecessor)
            await job_leases.give_up(db, predecessor)
            await replicas.forget(db, predecessor, now=clock.now())
        last = await schedule.wake_in_turn(
            db, node=world.spawner.node, now=clock.now(), per_s=FIRST_LOOKS_PER_S
        )
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(world), name="spawner.watch")
        group.create_task(resync.run(world), name="servers.resync")
        group.create_task(first_looks(world, last), name="servers.first_looks")
        group.create_task(_dispatch(world, owner.name), name="servers.dispatch")


async def first_looks(world: World, last: datetime) -> None:
    """Time how long it takes until all that was due by then was looked at."""
    began, node, left = time.monotonic(), world.spawner.node, True
    while left:
        await asyncio.sleep(LOOKED_AT_S)
        with contextlib.suppress(SQLAlchemyError, OSError):
            left = await world.db.read_in_one(partial(schedule.any_due, node=node, by=last))
    world.figures.first_looks.observe(time.monotonic() - began)


async def _dispatch(world: World, owner: str) -> None:
    places = asyncio.Semaphore(world.settings.spawner.concurrent_steps)
    more_is_due, looked = False, 0.0
    async with asyncio.TaskGroup() as group:
        while not world.together.leaving.is_set():
            free = await _take_free(places, gather_s=GATHER_S if more_is_due else 0)
            try:
                pause_s = 0.0
                if not more_is_due or time.monotonic() - looked > UNLOOKED_S:
                    pause_s, looked = await _pause(world), time.monotonic()
                world.looks.rows = clock.now()
                claimed = await _claim(world, owner, free) if pause_s <= 0 else []
            except (SQLAlchemyError, OSError) as error:
                log.error("database.unreachable", error=type(error).__name__)
                claimed, pause_s = [], 1.0
            more_is_due = len(claimed) == free
            for lease in claimed:
                task = group.create_task(_work(world, *lease), name=f"server.{lease[0].server_id}")
                task.add_done_callback(lambda _: places.release())
            for _ in range(free - len(claimed)):
                places.release()
            if not claimed:
                # Due by the clock and yet not to be had: another replica was faster.
                await world.doorbell.wait(at_most_s=max(pause_s, 0.005))


async def _take_free(places: asyncio.Semaphore, *, gather_s: float) -> int:
    """Wait for a place, a little for others, then take what is free; how many, at most CLAIMS."""
    await places.acquire()
    if gather_s:
        await asyncio.sleep(gather_s)
    taken = 1
    while taken < CLAIMS and not places.locked():
        await places.acquire()
        taken += 1
    return taken


async def _claim(world: World, owner: str, most: int) -> list[tuple[Lease, Server, str]]:
    """As many as are due, at most so many, in one transaction: a crowd is not claimed one by one."""
    ttl = timedelta(seconds=world.settings.servers.lease_s)
    claim = partial(
        leases.claim_due, owner=owner, node=world.spawner.node, now=clock.now(), ttl=ttl, most=most
    )
    claimed = await world.db.write(claim)
    if claimed:
        await async_fault("claim.after_commit")
    return claimed


async def _give_places(world: World) -> bool:
    give = partial(queue.give_places, settings=world.settings.servers, now=clock.now())
    chosen = await world.db.begin_in_one(give)
    for server_id in chosen:
        world.doorbell.tell(server_id)
    return bool(chosen)


async def _pause(world: World) -> float:
    """Seconds until a row is due, none of them if one is. On SQLite a claim in vain would take the one write lock."""

    async def look(db: AsyncSession) -> tuple[datetime | None, bool]:
        due, anybody_waits = await schedule.next_due(db, node=world.spawner.node)
        if not anybody_waits:
            return due, False
        return due, queue.room(await queue.load(db, world.settings.servers), world.settings.servers) > 0

    due, free = await world.db.read_in_one(look)
    if free and await _give_places(world):
        return 0.0
    longest = world.settings.servers.resync_s
    return longest if due is None else min(longest, (due - clock.now()).total_seconds())


async def _work(world: World, lease: Lease, server: Server, username: str) -> None:
    """One lease from claim to release. One bad server must not stop the rest."""
    worker = asyncio.create_task(reconcile(lease, world, server, username))
    tasks: set[asyncio.Task[Any]] = {worker}
    released = False
    try:
        # Hardly any step takes so long that its lease must be kept: one that does is given a keeper then.
        done, _ = await asyncio.wait(tasks, timeout=world.settings.servers.lease_s / 3)
        if not done:
            tasks.add(asyncio.create_task(keep_lease(world, lease)))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        released = worker.result()
    except LeaseLost:
        log.info("server.lease_lost", server_id=lease.server_id)
    except Exception as error:
        if not isinstance(
            error, (ProxyError, BackendGone)
        ):  # of what is away `put_back` says enough, for each of a crowd
            log.exception("server.step_failed", server_id=lease.server_id)
        with contextlib.suppress(SQLAlchemyError, OSError, LeaseLost):
            await put_back(world, lease, error)
    finally:
        if not released or len(tasks) > 1:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not released:
            with contextlib.suppress(SQLAlchemyError, OSError):
                await world.db.write(partial(leases.release, lease=lease))
        world.doorbell.ring(lease.server_id)


async def _watch(world: World) -> None:
    """A server ended: make its row due at once."""
    async for name in world.spawner.watch():
        try:
            async with world.db.begin() as db:
                ids = await schedule.wake(db, [name], now=clock.now())
        except (SQLAlchemyError, OSError):
            log.exception("spawner.report_lost", name=name)  # the slow resync finds it
            continue
        for server_id in ids:
            world.doorbell.ring(server_id)
