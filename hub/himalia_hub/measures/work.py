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
from himalia_hub.servers.world import World
from himalia_spawner.base import Measure, Measures

log = structlog.get_logger()

LEASE = "measures"
MINUTE_S = 60.0
SOON_S = 2.0
"""A server that has just become ready is measured that soon; sooner, a class that starts would feel it."""
CHUNK = 500
"""Servers that one transaction writes: others want SQLite's one writer, too."""


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
        self._asked: dict[tuple[int, str], int] = {}
        self.mine = False
        """Whether it was this hub's turn the last time, where any could measure."""

    def ask(self, servers: list[tuple[int, str, str]]) -> set[str]:
        """The names of those lives that were asked for less than twice yet; now they were once more."""
        self._asked = {
            (server_id, incarnation): self._asked.get((server_id, incarnation), 0) + 1
            for server_id, _, incarnation in servers
        }
        return {name for server_id, name, incarnation in servers if self._asked[server_id, incarnation] <= 2}

    def take(
        self,
        servers: list[tuple[int, str, str]],
        measured: dict[str, Measure],
        *,
        now: datetime,
        at_s: float,
        asked: Collection[str] | None = None,
    ) -> tuple[list[Point], list[Point]]:
        """What is worth writing: (what has changed, points of the last hour). `at_s` is a monotonic time.

        Only the names in `asked` were asked for; None is all.
        """
        changed, minutes, before = [], [], self._known
        self._known = {}
        for server_id, name, incarnation in servers:
            measure, known = measured.get(name), before.get(server_id)
            if known is not None and asked is not None and name not in asked:
                self._known[server_id] = known
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
    while True:
        await world.pace.pause(lambda: world.settings.servers.measure_s or math.inf)
        try:
            sampler.mine = world.spawner.node is not None or await _mine(world, owner)
            if sampler.mine:
                await measure(world, sampler)
        except (SQLAlchemyError, OSError) as error:
            log.warning("measures.database", error=type(error).__name__)


async def _when_new(world: World, sampler: Sampler) -> None:
    """A little after something happened to a server, and once more where it was news: two measures make CPU a rate."""
    heard = asyncio.Event()

    def hear(_: int | None) -> None:
        heard.set()

    world.doorbell.listen(hear)
    try:
        while True:
            await heard.wait()
            heard.clear()
            await asyncio.sleep(SOON_S)
            if not world.settings.servers.measure_s or not (sampler.mine or world.spawner.node is not None):
                continue
            try:
                if await measure(world, sampler, only_new=True):
                    heard.set()
            except (SQLAlchemyError, OSError) as error:
                log.warning("measures.database", error=type(error).__name__)
    finally:
        world.doorbell.unlisten(hear)


async def _mine(world: World, owner: str) -> bool:
    ttl = timedelta(seconds=2.5 * world.settings.servers.measure_s)
    async with world.db.begin() as db:
        return await lease.take(db, LEASE, owner, now=clock.now(), ttl=ttl)


async def measure(world: World, sampler: Sampler, *, only_new: bool = False) -> bool:
    """Once: ask the spawner about all running servers, or those that are new, and write what has changed.

    Whether there were new ones, which want to be asked for once more.
    """
    assert isinstance(world.spawner, Measures)
    servers = await world.db.read_in_one(partial(store.running, node=world.spawner.node))
    new = sampler.ask(servers)
    asked = new if only_new else {name for _, name, _ in servers}
    if not asked:
        return False
    measured = await world.spawner.measure(asked)
    changed, minutes = sampler.take(servers, measured, now=clock.now(), at_s=time.monotonic(), asked=asked)
    for start in range(0, max(len(changed), len(minutes)), CHUNK):
        part = slice(start, start + CHUNK)
        await world.db.write(partial(store.keep, now_used=changed[part], minutes=minutes[part]))
    return bool(new)
