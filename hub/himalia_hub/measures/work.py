"""Measuring running servers every few seconds, and new ones at once, each by one replica: where it runs, or whoever has
the lease.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

from himalia_hub import clock
from himalia_hub.db import lease
from himalia_hub.measures import store
from himalia_hub.measures.store import Point
from himalia_hub.pace import Bites
from himalia_hub.servers.world import World
from himalia_spawner.base import Measure, Measures

log = structlog.get_logger()

LEASE = "measures"
MINUTE_S = 60.0
SOON_S = 2.0
"""A server that has just become ready is measured that soon; sooner, a class that starts would feel it."""
CHUNK = 500
"""Servers that are read and measured at a time: others want the event loop, and SQLite, in between. No fewer, as each
time the process spawner looks at every process of the machine.
"""
WRITTEN = 100
"""So many are written in one transaction, in which others wait for SQLite's writer."""
SPREAD = 0.8
"""That part of the time between two turns is what one takes, where there are many servers."""


@dataclass(slots=True)
class _Known:
    """What was measured of one life of a server: the last time, at its last point, and what was written of it."""

    incarnation: str
    last: tuple[float, float | None]
    point: tuple[float, float | None]
    written: Point | None = None
    written_s: float = 0.0


class Sampler:
    """Turns what a spawner counts into rows. CPU is a rate, so a server's first measure has none."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._asked: dict[int, tuple[str, int]] = {}
        self.mine = False
        """Whether it was this hub's turn the last time, where any could measure."""

    def ask(self, servers: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
        """Those lives that were asked for less than twice yet; now they were once more."""
        new = []
        for server in servers:
            server_id, _, incarnation = server
            life, times = self._asked.get(server_id, ("", 0))
            times = times if life == incarnation else 0
            if times < 2:
                self._asked[server_id] = incarnation, times + 1
                new.append(server)
        return new

    def known(self) -> set[int]:
        """The servers that anything is kept of."""
        return {*self._known, *self._asked}

    def forget(self, ids: Collection[int]) -> None:
        """These run no longer."""
        for server_id in ids:
            self._known.pop(server_id, None)
            self._asked.pop(server_id, None)

    def take(
        self,
        servers: list[tuple[int, str, str]],
        measured: dict[str, Measure],
        *,
        now: datetime,
        at_s: float,
    ) -> tuple[list[Point], list[Point]]:
        """What is worth writing: (what has changed, points of the last hour). `at_s` is a monotonic time.

        `servers` are those that were asked for.
        """
        changed, minutes = [], []
        for server_id, name, incarnation in servers:
            measure, known = measured.get(name), self._known.pop(server_id, None)
            if measure is None:
                continue
            seen = at_s, measure.cpu_s
            if known is None or known.incarnation != incarnation:
                known = _Known(incarnation, seen, seen)
            self._known[server_id] = known
            point = Point(server_id, now, measure.memory, _rate(known.last, seen))
            known.last = seen
            if noticeable(known.written, point) or at_s - known.written_s >= MINUTE_S:
                changed.append(point)
                known.written, known.written_s = point, at_s
            if at_s - known.point[0] >= MINUTE_S:
                minutes.append(Point(server_id, now, measure.memory, _rate(known.point, seen)))
                known.point = seen
        return changed, minutes


def noticeable(before: Point | None, now: Point) -> bool:
    """Whether a page would show it: a fiftieth of the memory, or a hundredth of a CPU. Pure."""
    if before is None or (before.memory is None) != (now.memory is None):
        return True
    if (before.cpus is None) != (now.cpus is None):
        return True
    memory = abs((now.memory or 0) - (before.memory or 0)) > max(2**20, (before.memory or 0) / 50)
    return memory or abs((now.cpus or 0) - (before.cpus or 0)) >= 0.01


def _rate(before: tuple[float, float | None], now: tuple[float, float | None]) -> float | None:
    if before[1] is None or now[1] is None or now[0] <= before[0]:
        return None
    return max(0.0, round((now[1] - before[1]) / (now[0] - before[0]), 3))


async def run(world: World, owner: str) -> None:
    """Measure every `servers.measure_s` until cancelled; not at all where the spawner cannot, or it is 0."""
    if not isinstance(world.spawner, Measures):
        return
    sampler = Sampler()
    async with asyncio.TaskGroup() as both:
        both.create_task(_in_turn(world, owner, sampler), name="measures.turns")
        both.create_task(_when_new(world, sampler), name="measures.new")


async def _in_turn(world: World, owner: str, sampler: Sampler) -> None:
    took_s = 0.0
    while True:
        await world.pace.pause(partial(_until_next, world, took_s))
        began = time.monotonic()
        try:
            sampler.mine = world.spawner.node is not None or await _mine(world, owner)
            if sampler.mine:
                await measure(world, sampler, Bites(SPREAD * world.settings.servers.measure_s))
        except (SQLAlchemyError, OSError) as error:
            log.warning("measures.database", error=type(error).__name__)
        took_s = time.monotonic() - began


def _until_next(world: World, took_s: float) -> float:
    return (world.settings.servers.measure_s or math.inf) - took_s


async def _when_new(world: World, sampler: Sampler) -> None:
    """A little after something happened to a server, and once more where it was news: two measures make CPU a rate."""
    heard, woken = set[int](), asyncio.Event()

    def hear(server_id: int | None) -> None:
        if server_id is not None:  # what was missed is measured in its turn
            heard.add(server_id)
            woken.set()

    world.doorbell.listen(hear)
    try:
        while True:
            await woken.wait()
            woken.clear()
            await asyncio.sleep(SOON_S)
            news = list(heard)
            heard.clear()
            if not world.settings.servers.measure_s or not (sampler.mine or world.spawner.node is not None):
                continue
            try:
                for server_id in await measure_new(world, sampler, news):
                    hear(server_id)
            except (SQLAlchemyError, OSError) as error:
                log.warning("measures.database", error=type(error).__name__)
    finally:
        world.doorbell.unlisten(hear)


async def _mine(world: World, owner: str) -> bool:
    ttl = timedelta(seconds=2.5 * world.settings.servers.measure_s)
    async with world.db.begin() as db:
        return await lease.take(db, LEASE, owner, now=clock.now(), ttl=ttl)


async def measure(world: World, sampler: Sampler, bites: Bites | None = None) -> None:
    """Once: ask the spawner about all running servers, and write what has changed. Bites with rests spread it."""
    after_id, gone, bites = 0, sampler.known(), bites or Bites()
    number = math.ceil(await world.db.read_in_one(partial(store.count, node=world.spawner.node)) / CHUNK)
    while servers := await _read(world, after_id=after_id):
        await _measure(world, sampler, servers)
        after_id = servers[-1][0]
        gone.difference_update(server_id for server_id, _, _ in servers)
        if len(servers) == CHUNK:
            await bites.rest(number)
    sampler.forget(gone)


async def measure_new(world: World, sampler: Sampler, ids: Collection[int]) -> list[int]:
    """The same for those of these that have just become ready; which they were: they want to be asked once more."""
    new: list[int] = []
    wanted = sorted(ids)
    for start in range(0, len(wanted), CHUNK):
        if servers := sampler.ask(await _read(world, of=wanted[start : start + CHUNK])):
            await _measure(world, sampler, servers)
            new += (server_id for server_id, _, _ in servers)
    return new


async def _read(
    world: World, *, after_id: int = 0, of: Collection[int] | None = None
) -> list[tuple[int, str, str]]:
    reading = partial(store.running, node=world.spawner.node, after_id=after_id, of=of, most=CHUNK)
    return await world.db.read_in_one(reading)


async def _measure(world: World, sampler: Sampler, servers: list[tuple[int, str, str]]) -> None:
    assert isinstance(world.spawner, Measures)
    measured = await world.spawner.measure({name for _, name, _ in servers})
    changed, minutes = sampler.take(servers, measured, now=clock.now(), at_s=time.monotonic())
    for start in range(0, max(len(changed), len(minutes)), WRITTEN):
        some = slice(start, start + WRITTEN)
        await world.db.write(partial(store.keep, now_used=changed[some], minutes=minutes[some]))
