"""Who waits for a launch: a place in the queue is given up once nobody has for a while.

Open streams and questions of one replica are written into rows together, a few times within that while. So any replica
knows of all of them, and one that ends takes nobody's place along.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from aiohttp import web

from himalia_hub import clock
from himalia_hub.db.engine import Database
from himalia_hub.ephemeral import store

TIMES = 4
"""So often within `ephemeral.nobody_waits_s` rows are written, and looked at."""
GAP = timedelta(seconds=10)
"""A hub that looks less often than that was away, or its clock was set."""


class Listeners:
    """Those of one replica."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._streams: defaultdict[int, dict[int, web.Request]] = defaultdict(dict)
        self._asked: set[int] = set()
        self._written_s = -float("inf")

    def asked(self, launch_id: int) -> None:
        """Somebody asked how far it is, as pages without JavaScript do again and again."""
        self._asked.add(launch_id)

    @contextmanager
    def listening(self, launch_id: int, request: web.Request) -> Iterator[None]:
        """Somebody follows it for as long as they are connected."""
        self._streams[launch_id][id(request)] = request
        try:
            yield
        finally:
            del self._streams[launch_id][id(request)]
            if not self._streams[launch_id]:
                del self._streams[launch_id]

    async def write(self, *, away_s: float) -> None:
        """Have the rows say who is there, if that is due. Who closed their tab has no connection any more."""
        if not away_s or time.monotonic() - self._written_s < away_s / TIMES:
            return
        self._written_s = time.monotonic()
        open_ = {
            key
            for key, requests in self._streams.items()
            if any(request.transport is not None for request in requests.values())
        }
        there, self._asked = sorted(open_ | self._asked), set()
        if there:
            await self._db.begin_in_one(lambda db: store.heard(db, there, now=clock.now()))


class Vigil:
    """When who was not heard of counts as gone: not before somebody has listened for them that long without a break.

    A hub that was away, of which everybody lost their stream, waits for them to come back.
    """

    def __init__(self, away_s: float) -> None:
        self._away = timedelta(seconds=away_s)
        self._last: datetime | None = None

    def gone_before(self, now: datetime) -> datetime | None:
        """Who was last heard of before this is gone; None where nobody is to be judged now. Call it often."""
        if self._last is None or not timedelta(0) <= now - self._last <= GAP:
            self._began = self._looked = now
        self._last = now
        if not self._away or now - self._began < self._away or now - self._looked < self._away / TIMES:
            return None
        self._looked = now
        return now - self._away
