"""Measuring running servers every few seconds, each by one replica: where it runs, or whoever has the lease."""

from __future__ import annotations

import math
import time
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

    def take(
        self, servers: list[tuple[int, str, str]], measured: dict[str, Measure], *, now: datetime, at_s: float
    ) -> tuple[list[Point], list[Point]]:
        """What is worth writing: (what has changed, points of the last hour). `at_s` is a monotonic time."""
        changed, minutes, before = [], [], self._known
        self._known = {}
        for server_id, name, incarnation in servers:
            measure, known = measured.get(name), before.get(server_id)
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
    while True:
        await world.pace.pause(lambda: world.settings.servers.measure_s or math.inf)
        try:
            if world.spawner.node is not None or await _mine(world, owner):
                await measure(world, sampler)
        except (SQLAlchemyError, OSError) as error:
            log.warning("measures.database", error=type(error).__name__)


async def _mine(world: World, owner: str) -> bool:
    ttl = timedelta(seconds=2.5 * world.settings.servers.measure_s)
    async with world.db.begin() as db:
        return await lease.take(db, LEASE, owner, now=clock.now(), ttl=ttl)


async def measure(world: World, sampler: Sampler) -> None:
    """Once: ask the spawner about all running servers, and write what has changed."""
    assert isinstance(world.spawner, Measures)
    async with world.db.read() as db:
        servers = await store.running(db, node=world.spawner.node)
    if not servers:
        return
    measured = await world.spawner.measure([name for _, name, _ in servers])
    changed, minutes = sampler.take(servers, measured, now=clock.now(), at_s=time.monotonic())
    for start in range(0, max(len(changed), len(minutes)), CHUNK):
        part = slice(start, start + CHUNK)
        await world.db.write(partial(store.keep, now_used=changed[part], minutes=minutes[part]))
