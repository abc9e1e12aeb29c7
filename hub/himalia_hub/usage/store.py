"""Queries on quotas and use. None of them commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub.errors import TooMany
from himalia_hub.groups.models import Group, Membership
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.settings import HubSettings
from himalia_hub.usage.models import Quota, UsageDay
from himalia_hub.usage.quota import GIB, HOUR, Asked, Limits, Use, by_day, merged, refusal, window
from himalia_hub.usage.settings import QuotaLimits, QuotasSection
from himalia_hub.users.models import User
from himalia_spawner.limits import memory_bytes

TRY_AGAIN_S = 60.0


class OverQuota(TooMany):
    """The start would use more than somebody may; the remedy says what to do, or when there is more."""

    code = "over-quota"


class Running(NamedTuple):
    """How many servers use up hours now, and the memory limits of these in GiB: what goes with each hour."""

    servers: int = 0
    gib: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What one person, or a group together, may use and uses. `group` is empty for the person."""

    group: str
    limits: Limits
    use: Use
    resets: datetime
    whose: str
    running: Running


@dataclass(frozen=True, slots=True)
class _Account:
    whose: str
    group: str
    limits: Limits
    members: sa.Select[Any]


async def standings(
    db: AsyncSession, settings: HubSettings, user: User, *, now: datetime, only_hours: bool = False
) -> list[Standing]:
    """The person's own first, then those of their groups that have limits; `only_hours`: those with limits of hours."""
    accounts = await _accounts(db, settings, user)
    if only_hours:
        accounts = [one for one in accounts if one.limits.server_hours or one.limits.memory_hours]
    return [await _standing(db, settings, account, now=now, but=None) for account in accounts]


async def of_group(db: AsyncSession, settings: HubSettings, group: Group, *, now: datetime) -> Standing:
    """What the members of a group may use together, and use."""
    row = await db.scalar(sa.select(Quota).where(Quota.group_id == group.id))
    return await _standing(db, settings, _of_group(settings, group, row), now=now, but=None)


async def has_limits(db: AsyncSession, settings: HubSettings, user: User) -> bool:
    """Whether anything bounds what this person uses."""
    return any(any(account.limits) for account in await _accounts(db, settings, user))


def says_limits(section: QuotasSection) -> bool:
    """Whether the configuration bounds anybody's use."""
    places = [section, *section.users.values(), *section.groups.values()]
    return any(any(limits_in(place)) for place in places)


async def check(
    db: AsyncSession, settings: HubSettings, user: User, asked: Asked, *, now: datetime, but: int | None
) -> None:
    """OverQuota when one more server is too much. The caller holds the lock of starts (`servers/queue.py`)."""
    for account in await _accounts(db, settings, user):
        if not any(account.limits):
            continue
        standing = await _standing(db, settings, account, now=now, but=but)
        no = refusal(account.whose, standing.limits, standing.use, asked, standing.resets)
        if no is not None:
            wait_s = (standing.resets - now).total_seconds() if no.wait else TRY_AGAIN_S
            error = OverQuota(no.message, retry_after_s=wait_s)
            error.remedy = no.remedy
            raise error


def record_life(db: Session, server: Server, *, until: datetime) -> None:
    """Add what a server that has just ended used. Its caller forgets `started` with it, so that a life counts once."""
    if server.started is None:
        return
    for day, seconds in by_day(server.started, until):
        gib_s = seconds * (server.memory_reserved or 0) / GIB
        more = {"server_s": UsageDay.server_s + seconds, "memory_gib_s": UsageDay.memory_gib_s + gib_s}
        grown = (
            sa.update(UsageDay).where(UsageDay.user_id == server.user_id, UsageDay.day == day).values(more)
        )
        if db.execute(grown).rowcount:  # type: ignore[attr-defined]
            continue
        try:
            with db.begin_nested():
                db.add(UsageDay(user_id=server.user_id, day=day, server_s=seconds, memory_gib_s=gib_s))
        except sa.exc.IntegrityError:  # another server of theirs ended at the same moment, at another hub
            db.execute(grown)


async def set_quota(
    db: AsyncSession, of: User | Group, values: Mapping[str, float | None] | None
) -> Quota | None:
    """Replace the quota that the API set of a person or group; with None it is as the configuration says again."""
    mine = Quota.user_id == of.id if isinstance(of, User) else Quota.group_id == of.id
    await db.execute(sa.delete(Quota).where(mine))
    if values is None:
        return None
    key = {"user_id": of.id} if isinstance(of, User) else {"group_id": of.id}
    row = Quota(**key, **values)
    db.add(row)
    await db.flush()
    return row


async def set_for_user(db: AsyncSession, user: User) -> Quota | None:
    """The quota that was set of this person beside the configuration."""
    return await db.scalar(sa.select(Quota).where(Quota.user_id == user.id))


async def set_for_groups(db: AsyncSession, groups: Sequence[Group]) -> dict[int, Quota]:
    """The quotas that were set of these groups beside the configuration, by the groups' ids."""
    rows = await db.scalars(sa.select(Quota).where(Quota.group_id.in_([group.id for group in groups])))
    return {row.group_id: row for row in rows if row.group_id is not None}


def limits_in(section: QuotaLimits | None) -> Limits:
    """Limits as numbers, 0 kept."""
    if section is None:
        return Limits()
    memory = section.memory
    amount = None if memory is None else 0 if str(memory) == "0" else memory_bytes(memory)
    return Limits(section.servers, amount, section.cpus, section.server_hours, section.memory_hours)


def limits_of(row: Quota | None) -> Limits:
    """What was set beside the configuration, 0 kept."""
    if row is None:
        return Limits()
    return Limits(row.servers, row.memory, row.cpus, row.server_hours, row.memory_hours)


MINE = sa.select(Membership.group_id).where(Membership.user_id == sa.bindparam("user_id"))
_GROUPS = sa.select(Group).where(Group.id.in_(MINE)).order_by(Group.name)
_QUOTAS = sa.select(Quota).where(sa.or_(Quota.user_id == sa.bindparam("user_id"), Quota.group_id.in_(MINE)))
"""Built once: every start asks for the groups and quotas of its person."""


async def _accounts(db: AsyncSession, settings: HubSettings, user: User) -> list[_Account]:
    groups: Sequence[Group] = list(await db.scalars(_GROUPS, {"user_id": user.id}))
    rows = list(await db.scalars(_QUOTAS, {"user_id": user.id}))
    said = settings.quotas
    own = next((row for row in rows if row.user_id == user.id), None)
    layers = limits_in(said), limits_in(said.users.get(user.name)), limits_of(own)
    accounts = [_Account(user.name, "", merged(*layers), sa.select(User.id).where(User.id == user.id))]
    by_group = {row.group_id: row for row in rows}
    for group in groups:
        account = _of_group(settings, group, by_group.get(group.id))
        if any(account.limits):
            accounts.append(account)
    return accounts


def _of_group(settings: HubSettings, group: Group, row: Quota | None) -> _Account:
    limits = merged(limits_in(settings.quotas.groups.get(group.name)), limits_of(row))
    members = sa.select(Membership.user_id).where(Membership.group_id == group.id)
    return _Account(f"the group {group.name!r}", group.name, limits, members)


async def _standing(
    db: AsyncSession, settings: HubSettings, account: _Account, *, now: datetime, but: int | None
) -> Standing:
    begins, resets = window(settings.quotas.period, now)
    # A server that is on its way down still uses what it was given.
    there = sa.or_(
        Server.desired == Desired.RUNNING, Server.phase.in_([Phase.STARTING, Phase.READY, Phase.STOPPING])
    )
    columns = Server.id, Server.memory_reserved, Server.cpus_reserved, Server.started
    live = (await db.execute(sa.select(*columns).where(Server.user_id.in_(account.members), there))).all()
    over = sa.select(
        sa.func.coalesce(sa.func.sum(UsageDay.server_s), 0.0),
        sa.func.coalesce(sa.func.sum(UsageDay.memory_gib_s), 0.0),
    ).where(UsageDay.user_id.in_(account.members), UsageDay.day >= begins)
    server_s, gib_s = (await db.execute(over)).one()
    for row in live:
        if row.started is not None:
            seconds = max(0.0, (now - max(row.started, begins)).total_seconds())
            server_s, gib_s = server_s + seconds, gib_s + seconds * (row.memory_reserved or 0) / GIB
    held = [row for row in live if row.id != but]
    lives = [row.memory_reserved or 0 for row in live if row.started is not None]
    use = Use(
        len(held),
        sum(row.memory_reserved or 0 for row in held),
        sum(row.cpus_reserved or 0.0 for row in held),
        server_s / HOUR,
        gib_s / HOUR,
    )
    running = Running(len(lives), sum(lives) / GIB)
    return Standing(account.group, account.limits, use, resets, account.whose, running)
