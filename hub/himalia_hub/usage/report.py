"""What was used, added up: by person, by group, by day. Lives that go on count until now, to the second.

Ended lives come from `UsageDay`, those that go on from the servers themselves: together they are every life once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.groups.models import Group, Membership
from himalia_hub.servers.models import Server
from himalia_hub.usage.models import UsageDay
from himalia_hub.usage.quota import GIB, HOUR, by_day
from himalia_hub.users.models import User


@dataclass(frozen=True, slots=True)
class Span:
    """From midnight to midnight (UTC), as far as it lies before `now`."""

    begins: datetime
    ends: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Spent:
    """Server-hours, and GiB-hours of memory limits, of one person or group."""

    name: str
    hours: float
    memory_hours: float


@dataclass(frozen=True, slots=True)
class _Part:
    """What a life that goes on used on one day."""

    user_id: int
    name: str
    day: datetime
    server_s: float
    gib_s: float


_sums = sa.func.sum(UsageDay.server_s), sa.func.sum(UsageDay.memory_gib_s)


async def by_person(db: AsyncSession, span: Span) -> list[Spent]:
    """Everybody who used anything, by name."""
    query = sa.select(User.name, *_sums).join(User, User.id == UsageDay.user_id).group_by(User.name)
    spent = await _ended(db, query, span)
    for part in await _going_on(db, span):
        _add(spent, part.name, part)
    return _spent(spent)


async def by_group(db: AsyncSession, span: Span) -> list[Spent]:
    """Every group whose members used anything, by name. Who is in two groups counts in both."""
    query = (
        sa.select(Group.name, *_sums)
        .select_from(UsageDay)
        .join(Membership, Membership.user_id == UsageDay.user_id)
        .join(Group, Group.id == Membership.group_id)
        .group_by(Group.name)
    )
    spent = await _ended(db, query, span)
    parts = await _going_on(db, span)
    member_of = await _groups_of(db, {part.user_id for part in parts})
    for part in parts:
        for group in member_of[part.user_id]:
            _add(spent, group, part)
    return _spent(spent)


async def by_days(
    db: AsyncSession, span: Span, *, user_id: int | None = None
) -> list[tuple[datetime, float]]:
    """Server-hours of each day of the span that has begun, of one person or of everybody."""
    query = sa.select(UsageDay.day, *_sums).group_by(UsageDay.day)
    query = query if user_id is None else query.where(UsageDay.user_id == user_id)
    spent = await _ended(db, query, span)
    for part in await _going_on(db, span, user_id=user_id):
        _add(spent, part.day, part)
    return [(day, spent.get(day, (0.0, 0.0))[0] / HOUR) for day in _days(span)]


def _days(span: Span) -> Iterator[datetime]:
    day = span.begins
    while day < min(span.ends, span.now):
        yield day
        day += timedelta(days=1)


async def _ended(
    db: AsyncSession, query: sa.Select[Any, Any, Any], span: Span
) -> dict[Any, tuple[float, float]]:
    rows = await db.execute(query.where(UsageDay.day >= span.begins, UsageDay.day < span.ends))
    return {row[0]: (row[1] or 0.0, row[2] or 0.0) for row in rows}


async def _going_on(db: AsyncSession, span: Span, *, user_id: int | None = None) -> list[_Part]:
    query = (
        sa.select(User.id, User.name, Server.started, Server.memory_reserved)
        .join(User, User.id == Server.user_id)
        .where(Server.started.is_not(None), Server.started < span.ends)
    )
    rows = await db.execute(query if user_id is None else query.where(User.id == user_id))
    return [
        _Part(row.id, row.name, day, seconds, seconds * (row.memory_reserved or 0) / GIB)
        for row in rows
        for day, seconds in by_day(row.started, span.now)
        if span.begins <= day < span.ends
    ]


async def _groups_of(db: AsyncSession, ids: set[int]) -> defaultdict[int, list[str]]:
    found: defaultdict[int, list[str]] = defaultdict(list)
    query = sa.select(Membership.user_id, Group.name).join(Group, Group.id == Membership.group_id)
    for row in await db.execute(query.where(Membership.user_id.in_(ids))):
        found[row[0]].append(row[1])
    return found


def _add(spent: dict[Any, tuple[float, float]], key: Any, part: _Part) -> None:
    server_s, gib_s = spent.get(key, (0.0, 0.0))
    spent[key] = server_s + part.server_s, gib_s + part.gib_s


def _spent(spent: dict[Any, tuple[float, float]]) -> list[Spent]:
    return [Spent(name, server_s / HOUR, gib_s / HOUR) for name, (server_s, gib_s) in sorted(spent.items())]
