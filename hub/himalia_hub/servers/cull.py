"""Stopping servers that nobody uses, that have run for too long or used up their hours: when, why, and the job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit import beside
from himalia_hub.db import lease
from himalia_hub.groups import store as groups
from himalia_hub.languages import counted
from himalia_hub.profiles.choice import chosen
from himalia_hub.servers import awake, store
from himalia_hub.servers.models import Server
from himalia_hub.servers.settings import CullLimits
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.view import ready
from himalia_hub.servers.world import World
from himalia_hub.settings import HubSettings
from himalia_hub.usage import hours
from himalia_hub.usage.hours import UsedUp
from himalia_hub.users.models import User

log = structlog.get_logger()

LEASE = "cull"
CHUNK = 500
"""So many servers are judged before others get their turn."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
# Throw-away sessions are ended by who ends all else that is theirs (`ephemeral/works.py`).
_RUNNING = sa.and_(
    Server.desired == Desired.RUNNING, Server.phase == Phase.READY, Server.extended_s.is_(None)
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Limits of one server in seconds; 0 is none."""

    idle_s: float = 0
    max_age_s: float = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """When the hub stops a server unless something changes. `idle`: being used puts it off; age cannot be put off.

    `hours`: those of the person or of a group are used up then, as far as can be seen; another server changes it.
    """

    at: datetime
    why: str
    idle: bool
    hours: bool = False


def rule_of(
    settings: HubSettings, username: str, member_of: Collection[str], options: Mapping[str, Any]
) -> Rule:
    """`[cull]`, then what it says of the profile, then of groups (by name), then of the person. Pure."""
    cull = settings.cull
    layers: list[CullLimits] = [cull]
    profile = chosen(settings, member_of, options)
    if profile is not None and profile.name in cull.profiles:
        layers.append(cull.profiles[profile.name])
    layers += [cull.groups[name] for name in sorted(member_of) if name in cull.groups]
    layers += [cull.users[username]] if username in cull.users else []

    def nearest(key: str) -> float:
        said: list[float | None] = [getattr(layer, key) for layer in layers]
        return next((value for value in reversed(said) if value is not None), 0)

    return Rule(nearest("idle_s"), nearest("max_age_s"))


def limits_of(server: Server, username: str, member_of: Collection[str], settings: HubSettings) -> Rule:
    """The limits of this server: those of `rule_of`, or of `[ephemeral]` for a throw-away session. Pure."""
    if server.extended_s is not None:
        return Rule(settings.ephemeral.idle_s, settings.ephemeral.max_age_s + server.extended_s)
    return rule_of(settings, username, member_of, server.user_options)


def ending(
    rule: Rule,
    *,
    started: datetime | None,
    last_activity: datetime | None,
    kept_alive_until: datetime | None = None,
) -> Ending | None:
    """The first of the ends that the rule leads to, or None. Pure.

    A start counts as use: `last_activity` may still be that of the life before. `kept_alive_until` puts off the end for
    not being used, never that for age.
    """
    used = max(started or _LONG_AGO, last_activity or _LONG_AGO)
    found = []
    if rule.idle_s and used > _LONG_AGO:
        at = max(used + timedelta(seconds=rule.idle_s), kept_alive_until or _LONG_AGO)
        found.append(Ending(at, f"idle for {spoken(rule.idle_s)}", True))
    if rule.max_age_s and started is not None:
        at = started + timedelta(seconds=rule.max_age_s)
        found.append(Ending(at, f"running for {spoken(rule.max_age_s)}, the longest allowed", False))
    return min(found, key=lambda one: one.at, default=None)


def ending_of(
    server: Server,
    username: str,
    member_of: Collection[str],
    settings: HubSettings,
    used_up: Iterable[UsedUp] = (),
) -> Ending | None:
    """When this server will be stopped, as things are; None for one that is not running, or has no limit. Pure.

    `used_up` is what `usage.hours.ends_for` says of its person. A throw-away session has its own longest age, and no
    quota; a server without a limit of memory uses up no memory-hours.
    """
    if not ready(server):
        return None
    found = [
        Ending(one.at, one.why, idle=False, hours=True)
        for one in used_up
        if server.extended_s is None and (server.memory_reserved or not one.memory)
    ]
    by_rule = ending(
        limits_of(server, username, member_of, settings),
        started=server.started,
        last_activity=server.last_activity,
        kept_alive_until=server.kept_alive_until,
    )
    return min([*found, *([by_rule] if by_rule else [])], key=lambda one: one.at, default=None)


def keep_alive(
    server: Server, username: str, member_of: Collection[str], settings: HubSettings, *, now: datetime
) -> None:
    """Put the end for not being used off by `cull.keep_alive_s` from now, or by the idle limit where that is longer.

    A throw-away session is kept for `ephemeral.extend_s`, its longest age too, as far as `ephemeral.longest_s` lets.
    """
    rule, for_s = limits_of(server, username, member_of, settings), settings.cull.keep_alive_s
    if server.extended_s is not None and server.started is not None:
        section, age_s = settings.ephemeral, (now - server.started).total_seconds()
        for_s = section.extend_s
        further_s = min(age_s + for_s, section.longest_s) - section.max_age_s
        server.extended_s = max(server.extended_s, further_s)
    server.kept_alive_until = now + timedelta(seconds=max(for_s, rule.idle_s))


def can_be_kept(server: Server, due: Ending | None, settings: HubSettings) -> bool:
    """Whether `keep_alive` would put its end off. Pure."""
    older = server.extended_s is not None and (
        settings.ephemeral.max_age_s + server.extended_s < settings.ephemeral.longest_s
    )
    return due is not None and (due.idle or older)


def spoken(seconds: float) -> str:
    """A length as configured, in words: `60 minutes`, `8 hours`, `2 days`, `1 minute`, `90 seconds`."""
    days, hours, minutes = (seconds / size for size in (86400, 3600, 60))
    if days >= 2 and days.is_integer():
        return counted("%(num)s day", "%(num)s days", days)
    if hours >= 2 and hours.is_integer():
        return counted("%(num)s hour", "%(num)s hours", hours)
    if minutes >= 1 and minutes.is_integer():
        return counted("%(num)s minute", "%(num)s minutes", minutes)
    return counted("%(num)s second", "%(num)s seconds", seconds)


async def run(world: World, owner: str) -> None:
    """Look every `cull.every_s` until cancelled, in one replica at a time; not while nothing has a limit."""
    heard = True
    while True:
        # The pause comes first: while no hub ran, nobody could report that they work. Servers try again each minute.
        await world.pace.pause(lambda: world.settings.cull.every_s)
        try:
            if not world.settings.cull.limits and not await _hours_are_limited(world):
                continue
            await awake.look(world)
            async with world.db.begin() as db:
                ttl = timedelta(seconds=2.5 * world.settings.cull.every_s)
                mine = await lease.take(db, LEASE, owner, now=clock.now(), ttl=ttl)
            # While the database was away no report of use was taken; whose was refused tells it again each minute.
            if mine and heard:
                await cull(world)
            heard = True
        except (SQLAlchemyError, OSError) as error:
            heard = False
            log.warning("cull.failed", error=type(error).__name__)


async def cull(world: World) -> list[int]:
    """One look: wish every server stopped whose time is over; their ids.

    Judged by the moment that `awake` last saw: a clock that jumps from here on is forgiven first.
    """
    now = world.looks.clock or clock.now()
    culled: list[int] = []
    after_id = 0
    while found := await world.db.read_in_one(
        partial(_candidates, world.settings, now=now, after_id=after_id)
    ):
        for server, username, mine in found:
            due = ending_of(server, username, mine, world.settings)
            if due is not None and due.at <= now and await _stop(world, server.id, username, mine, now):
                culled.append(server.id)
        after_id = found[-1][0].id
    for server_id, username, mine in await world.db.read_in_one(
        partial(_without_hours, world.settings, now=now)
    ):
        if await _stop(world, server_id, username, mine, now):
            culled.append(server_id)
    return culled


async def _hours_are_limited(world: World) -> bool:
    async with world.db.read() as db:
        return await hours.are_limited(db, world.settings)


async def _without_hours(
    settings: HubSettings, db: AsyncSession, *, now: datetime
) -> list[tuple[int, str, list[str]]]:
    """The running servers of those who have no hours left, with person and groups."""
    people = await hours.over(db, settings, now=now)
    if not people:
        return []
    rows = await db.execute(
        sa.select(Server.id, User.name, User.id)
        .join(User, User.id == Server.user_id)
        .where(_RUNNING, Server.user_id.in_(people))
        .order_by(Server.id)
    )
    member_of = await groups.of_users(db, people)
    return [(server_id, username, member_of[user_id]) for server_id, username, user_id in rows]


async def _candidates(
    settings: HubSettings, db: AsyncSession, *, now: datetime, after_id: int
) -> list[tuple[Server, str, list[str]]]:
    """The next running servers whose time is over by the shortest limits that anybody has, with person and groups.

    So most of those that are used are never loaded: what one look costs the hub follows what there is to stop.
    """
    rows = await db.execute(
        sa.select(Server, User.name)
        .join(User, User.id == Server.user_id)
        .where(_RUNNING, Server.id > after_id, _over(settings, now))
        .order_by(Server.id)
        .limit(CHUNK)
    )
    found = [(row[0], row[1]) for row in rows]
    member_of = await groups.of_users(db, list({server.user_id for server, _ in found}))
    return [(server, username, member_of[server.user_id]) for server, username in found]


def _over(settings: HubSettings, now: datetime) -> sa.ColumnElement[bool]:
    """Not used, or running, for longer than the shortest limit of that kind."""
    idle = [place.idle_s for place in settings.cull.limits if place.idle_s]
    age = [place.max_age_s for place in settings.cull.limits if place.max_age_s]
    over: list[sa.ColumnElement[bool]] = [sa.false()]
    if idle:
        before = now - timedelta(seconds=min(idle))
        used = (
            sa.or_(moment.is_(None), moment <= before) for moment in (Server.started, Server.last_activity)
        )
        over.append(sa.and_(*used))
    if age:
        over.append(Server.started <= now - timedelta(seconds=min(age)))
    return sa.or_(*over)


async def _stop(
    world: World, server_id: int, username: str, member_of: Collection[str], now: datetime
) -> bool:
    """Decide on the row as it is now, locked: somebody may have come back since it was listed."""
    async with world.db.begin() as db:
        server = await db.get(Server, server_id, with_for_update=True)
        if server is None:
            return False
        used_up = await hours.ends_for(db, world.settings, server.user_id, now=now)
        due = ending_of(server, username, member_of, world.settings, used_up)
        if due is None or due.at > now:
            return False
        await store.want_stopped(db, server, now=clock.now(), why=due.why)
        db.add(beside.by_hub("cull", target_user=username, target=server.name, why=due.why))
    log.info("server.culled", user=username, server=server.name, why=due.why)
    world.doorbell.ring(server_id)
    return True
