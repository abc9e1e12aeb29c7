"""When hours are used up while servers run, and whose are: what ends these servers (`servers/cull.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.groups.models import Group, Membership
from himalia_hub.languages import counted
from himalia_hub.servers.models import Server
from himalia_hub.settings import HubSettings
from himalia_hub.usage import store
from himalia_hub.usage.models import Quota, UsageDay
from himalia_hub.usage.quota import GIB, HOUR, Limits, merged, window
from himalia_hub.usage.store import Standing
from himalia_hub.users.models import User


class UsedUp(NamedTuple):
    """From when on nothing is left if all that runs goes on. `memory`: of memory-hours, which only some servers use."""

    at: datetime
    why: str
    memory: bool


class _Live(NamedTuple):
    """A person with what their servers that run have used in this period (seconds, GiB-seconds)."""

    name: str
    server_s: float
    gib_s: float


def used_up(standings: Iterable[Standing], *, now: datetime) -> list[UsedUp]:
    """What will be used up before there are new hours, in any order; at `now` what is so already. Pure."""
    found = []
    for one in standings:
        limits, use, running = one.limits, one.use, one.running
        kinds = (
            (limits.server_hours, use.server_hours, running.servers, _server_hours, False),
            (limits.memory_hours, use.memory_hours, running.gib, _memory_hours, True),
        )
        for limit, used, hourly, words, memory in kinds:
            if limit is None or not hourly:
                continue
            left_s = max(0.0, limit - used) / hourly * HOUR
            if left_s < (one.resets - now).total_seconds():
                found.append(UsedUp(now + timedelta(seconds=left_s), words(limit, one.whose), memory))
    return found


def _server_hours(limit: float, whose: str) -> str:
    return counted(
        "the %(num)s server-hour of %(whose)s is used up",
        "the %(num)s server-hours of %(whose)s are used up",
        limit,
        whose=whose,
    )


def _memory_hours(limit: float, whose: str) -> str:
    return counted(
        "the %(num)s GiB-hour of memory of %(whose)s is used up",
        "the %(num)s GiB-hours of memory of %(whose)s are used up",
        limit,
        whose=whose,
    )


async def ends_for(
    db: AsyncSession, settings: HubSettings, user_id: int, *, now: datetime
) -> Sequence[UsedUp]:
    """What will end this person's servers; nothing where used-up hours only refuse starts."""
    if settings.quotas.when_used_up != "stop":
        return ()
    user = await db.get_one(User, user_id)
    return used_up(await store.standings(db, settings, user, now=now, only_hours=True), now=now)


def ends_by(standings: Iterable[Standing], settings: HubSettings, *, now: datetime) -> Sequence[UsedUp]:
    """The same for who knows where the person stands."""
    return used_up(standings, now=now) if settings.quotas.when_used_up == "stop" else ()


async def are_limited(db: AsyncSession, settings: HubSettings) -> bool:
    """Whether the hours of anybody who may be stopped for it are limited: by the configuration, or over the API."""
    if settings.quotas.when_used_up != "stop":
        return False
    said = settings.quotas
    places = [said, *said.users.values(), *said.groups.values()]
    return any(place.server_hours or place.memory_hours for place in places) or bool(
        await db.scalar(sa.select(sa.exists(sa.select(Quota.id).where(_SAYS_HOURS))))
    )


_SAYS_HOURS = sa.or_(Quota.server_hours > 0, Quota.memory_hours > 0)


async def over(db: AsyncSession, settings: HubSettings, *, now: datetime) -> list[int]:
    """The people with servers that run whose hours, or those of a group of theirs, are used up: few of many.

    Four statements however many they are; each one found is judged by `ends_for` before anything is stopped.
    """
    if not await are_limited(db, settings):
        return []
    begins, _ = window(settings.quotas.period, now)
    rows = list(await db.scalars(sa.select(Quota)))
    of_user = {row.user_id: store.limits_of(row) for row in rows if row.user_id is not None}
    live = await _live(db, begins, now)
    groups = await _limited_groups(db, settings, rows)
    member_of = list(
        await db.execute(
            sa.select(Membership.group_id, Membership.user_id).where(Membership.group_id.in_(groups))
        )
    )
    spent = await _spent(db, begins, list(groups))
    found = set()
    said = settings.quotas
    everybody = store.limits_in(said)
    most = merged(everybody)  # those of nearly all

    def use(user_id: int) -> tuple[float, float]:
        server_s, gib_s = spent.get(user_id, (0.0, 0.0))
        running = live.get(user_id)
        return (server_s + running.server_s, gib_s + running.gib_s) if running else (server_s, gib_s)

    for user_id, person in live.items():
        own = store.limits_in(said.users.get(person.name)), of_user.get(user_id, Limits())
        if _is_over(merged(everybody, *own) if any(map(any, own)) else most, [use(user_id)]):
            found.add(user_id)
    for group_id, limits in groups.items():
        members = [user_id for of, user_id in member_of if of == group_id]
        if _is_over(limits, [use(user_id) for user_id in members]):
            found.update(user_id for user_id in members if user_id in live)
    return sorted(found)


def _is_over(limits: Limits, uses: Sequence[tuple[float, float]]) -> bool:
    for limit, column in ((limits.server_hours, 0), (limits.memory_hours, 1)):
        if limit is not None and sum(use[column] for use in uses) >= limit * HOUR:
            return True
    return False


async def _live(db: AsyncSession, begins: datetime, now: datetime) -> dict[int, _Live]:
    query = sa.select(Server.user_id, User.name, Server.started, Server.memory_reserved)
    rows = await db.execute(
        query.join(User, User.id == Server.user_id).where(
            Server.started.is_not(None), Server.extended_s.is_(None)
        )
    )
    found: dict[int, _Live] = {}
    for user_id, name, started, memory in rows:
        seconds = max(0.0, (now - max(started or now, begins)).total_seconds())
        before = found.get(user_id, _Live(name, 0.0, 0.0))
        gib_s = seconds * (memory or 0) / GIB
        found[user_id] = _Live(name, before.server_s + seconds, before.gib_s + gib_s)
    return found


async def _limited_groups(
    db: AsyncSession, settings: HubSettings, rows: Sequence[Quota]
) -> dict[int, Limits]:
    of_group = {row.group_id: store.limits_of(row) for row in rows if row.group_id is not None}
    said = settings.quotas.groups
    named = sa.or_(Group.name.in_(list(said)), Group.id.in_(list(of_group)))
    found = {}
    for group_id, name in await db.execute(sa.select(Group.id, Group.name).where(named)):
        limits = merged(store.limits_in(said.get(name)), of_group.get(group_id, Limits()))
        if limits.server_hours is not None or limits.memory_hours is not None:
            found[group_id] = limits
    return found


async def _spent(db: AsyncSession, begins: datetime, groups: list[int]) -> dict[int, tuple[float, float]]:
    """Seconds and GiB-seconds of lives that have ended, by person: of who runs something, and of these groups."""
    # By person, and not by day: years of use are kept, and the key begins with the person.
    who = sa.union(
        sa.select(Server.user_id).where(Server.started.is_not(None)),
        sa.select(Membership.user_id).where(Membership.group_id.in_(groups)),
    )
    sums = sa.func.sum(UsageDay.server_s), sa.func.sum(UsageDay.memory_gib_s)
    query = sa.select(UsageDay.user_id, *sums).where(UsageDay.day >= begins, UsageDay.user_id.in_(who))
    rows = await db.execute(query.group_by(UsageDay.user_id))
    return {user_id: (server_s or 0.0, gib_s or 0.0) for user_id, server_s, gib_s in rows}
