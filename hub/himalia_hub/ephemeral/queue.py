"""Who waits for a place, read once for all who are told of it.

Of 200 who wait each is told whenever anybody's place may have changed: were each to count the rows before its own, the
hub would do little else.
"""

from __future__ import annotations

import asyncio
import time

from himalia_hub import clock
from himalia_hub.db.engine import Database
from himalia_hub.ephemeral import store

FRESH_S = 0.25
"""A place that is told is as old as this at most."""

KNOWN_FOR_S = 30.0
"""How long sessions last changes slowly."""


class Queue:
    """The queue of one database, as this replica last saw it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._reading = asyncio.Lock()
        self._seen = store.Standing((), 0)
        self._seen_at = -FRESH_S
        self._typical: store.Typical | None = None
        self._typical_at = -KNOWN_FOR_S

    async def place(self, launch_id: int) -> store.Place:
        """Where the launch stands. Whoever came after the last look makes a new one: it would count too few."""
        async with self._reading:
            if launch_id > self._seen.last or time.monotonic() - self._seen_at > FRESH_S:
                self._seen = await self._db.read_in_one(store.standing)
                self._seen_at = time.monotonic()
                if self._seen_at - self._typical_at > KNOWN_FOR_S:
                    self._typical_at = self._seen_at
                    self._typical = await self._db.read_in_one(
                        lambda db: store.typical_s(db, now=clock.now())
                    )
            return self._seen.place(launch_id)

    def eta_s(self, place: store.Place) -> float | None:
        """About how long until that place's turn: places come free at the pace at which sessions of the last day ended.

        Of the last ones before where none ended in that day (`by_older`); None while nothing is known of that.
        """
        known = self._typical
        return place.number * known.seconds / place.running if known is not None and place.running else None

    @property
    def by_older(self) -> bool:
        """Whether estimates rest on sessions that ended more than a day ago."""
        return self._typical is not None and not self._typical.lately
