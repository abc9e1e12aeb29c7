"""The queue of starts that wait for a place: rows of the servers table, so that no hub's death loses anybody's turn.

A start has a place from its wish on, or `queued_at` says since when it waits. Whoever gives out a place holds the
queue's lock, so that the bounds hold to the unit with any number of hubs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.db.memo import Memo
from himalia_hub.db.prepared import hold, is_postgresql
from himalia_hub.errors import TooMany
from himalia_hub.servers import store
from himalia_hub.servers.models import UNDER_WAY, Server
from himalia_hub.servers.settings import ServersSection
from himalia_hub.servers.state import Desired

LOCK = "himalia starts"
RETRY_RANGE_S = (30.0, 60.0)


class Waiting(NamedTuple):
    """A start that waits, in the order of its wish."""

    server_id: int
    user_id: int


class Load(NamedTuple):
    """What has a place: starts under way by person, and servers in all (0 where these have no bound)."""

    starting: Mapping[int, int]
    active: int


class Counts(NamedTuple):
    """What one more start meets: how many are under way, how many servers have a place, whether anybody waits."""

    starting: int
    active: int
    anybody_waits: bool


def in_turn(waiting: Sequence[Waiting], starting: Mapping[int, int]) -> list[int]:
    """Server ids in the order in which they get a place. Pure.

    First come, first served, among the first starts of each person; then among the second ones, and so on. A start of
    theirs that is under way counts, so that who asks for ten at once delays nobody who asks for one.
    """
    turn = Counter(starting)
    keyed = []
    for index, one in enumerate(waiting):
        keyed.append((turn[one.user_id], index, one.server_id))
        turn[one.user_id] += 1
    return [server_id for _, _, server_id in sorted(keyed)]


def room(load: Load, settings: ServersSection) -> int:
    """How many further starts the bounds allow. Pure."""
    limits = (
        (settings.active_limit, load.active),
        (settings.concurrent_start_limit, sum(load.starting.values())),
    )
    return max(0, min((limit - used for limit, used in limits if limit), default=1_000_000))


async def lock(db: AsyncSession) -> None:
    """Until the transaction ends nobody else gives out places. SQLite has one writer anyway."""
    if is_postgresql(db):
        await db.run_sync(hold, "pg_advisory_xact_lock", LOCK)


_PLACED = sa.and_(Server.desired == Desired.RUNNING, Server.queued_at.is_(None))
_STARTING = sa.select(Server.user_id, sa.func.count()).where(UNDER_WAY).group_by(Server.user_id)
_ACTIVE = sa.select(sa.func.count()).select_from(Server).where(_PLACED)
"""Built once: each start asks them."""


def counted(settings: ServersSection) -> tuple[sa.ColumnElement[int], sa.ColumnElement[int]]:
    """How many starts are under way, how many servers have a place; nothing is counted that has no bound."""
    starting = sa.select(sa.func.count()).select_from(Server).where(UNDER_WAY).scalar_subquery()
    active = _ACTIVE.scalar_subquery()
    return (
        (starting if settings.concurrent_start_limit else sa.literal(0)).label("starting"),
        (active if settings.active_limit else sa.literal(0)).label("active"),
    )


async def load(db: AsyncSession, settings: ServersSection) -> Load:
    """What has a place just now."""
    by_person = {row[0]: row[1] for row in await db.execute(_STARTING)}
    return Load(by_person, (await db.scalar(_ACTIVE) or 0) if settings.active_limit else 0)


async def waiting(db: AsyncSession) -> list[Waiting]:
    """Everybody who waits, in the order of their wishes."""
    found = sa.select(Server.id, Server.user_id).where(Server.queued_at.is_not(None))
    return [Waiting(*row) for row in await db.execute(found.order_by(Server.queued_at, Server.id))]


def is_bounded(settings: ServersSection) -> bool:
    """Whether a start can have to wait. Pure."""
    return bool(settings.active_limit or settings.concurrent_start_limit)


def must_wait(there: Counts, settings: ServersSection, *, refuse: bool) -> bool:
    """Whether one more start must wait; TooMany instead, when `refuse`. Pure.

    `there` was counted in the transaction of the wish, under the queue's lock.
    """
    if room(Load({0: there.starting}, there.active), settings) and not there.anybody_waits:
        return False
    if not refuse and settings.when_full == "wait":
        return True
    full = f"{there.active} servers run" if settings.active_limit else "all places are taken"
    raise TooMany(
        f"{full}, {there.starting} are starting just now; try again later",
        retry_after_s=random.uniform(*RETRY_RANGE_S),  # noqa: S311 -- spreads the herd, keeps no secret
    )


async def give_places(db: AsyncSession, settings: ServersSection, *, now: datetime) -> list[int]:
    """Give free places to those whose turn it is; their ids. They are due at once."""
    await lock(db)
    present = await load(db, settings)
    chosen = in_turn(await waiting(db), present.starting)[: room(present, settings)]
    if chosen:
        those = sa.update(Server).where(Server.id.in_(chosen), Server.queued_at.is_not(None))
        await db.execute(those.values(queued_at=None, due_at=now))
        for server_id in chosen:
            await store.notify(db, server_id)
    return chosen


async def places(memo: Memo, settings: ServersSection) -> dict[int, int]:
    """By server id, the place of each start that waits: 1 is next. Worked out once for all who ask."""

    async def look() -> dict[int, int]:
        async with memo.db.read() as db:
            order = in_turn(await waiting(db), (await load(db, settings)).starting)
        return {server_id: number for number, server_id in enumerate(order, 1)}

    return await memo.get("places in the start queue", look)


def words(place: int) -> str:
    """What people read while they wait."""
    if place == 1:
        return "Waiting for a free place: you are next"
    return f"Waiting for a free place: number {place} in the queue"
