"""Queries on launches and environments. None of them commits."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub.ephemeral.models import (
    BUILD_ONLY,
    NOBODY,
    OVER,
    BuildLine,
    Environment,
    Launch,
    LaunchEvent,
    Stage,
)
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.errors import TooMany

UNDER_WAY = [stage for stage in Stage if stage not in OVER]
"""By name, not as what is left without those that are over: the index finds them among a year of history."""
QUEUE = sa.and_(Launch.stage.in_([Stage.RESOLVING, Stage.FETCHING, Stage.WAITING]), ~Launch.seated)
LONGEST_LOG = 2000
DAY = timedelta(days=1)
LAST_ONES = 50
POOL, NET = "pool:", "net:"
"""Visitors: of launches that are made before anybody asks, and how the address of one without an account begins."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a launch stands in the queue: 1 is next; `running` sessions have a place."""

    number: int
    running: int


@dataclass(frozen=True, slots=True)
class Typical:
    """How long a session has its place, in seconds; whether sessions of the last day say so, or only older ones."""

    seconds: float
    lately: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """The queue at one moment: ids of those who wait, in their order, and how many sessions have a place."""

    waiting: tuple[int, ...]
    running: int

    @property
    def last(self) -> int:
        """The id at its end; 0 when nobody waits."""
        return self.waiting[-1] if self.waiting else 0

    def place(self, launch_id: int) -> Place:
        """Where that launch stands."""
        return Place(bisect_left(self.waiting, launch_id) + 1, self.running)


async def by_key(db: AsyncSession, key: str) -> Launch | None:
    """The launch that an address names."""
    return (await db.scalars(sa.select(Launch).where(Launch.key == key))).one_or_none()


async def under_way(db: AsyncSession) -> list[Launch]:
    """Everything that is not over, oldest first."""
    return list(await db.scalars(sa.select(Launch).where(Launch.stage.in_(UNDER_WAY)).order_by(Launch.id)))


async def sessions_of(db: AsyncSession, user_id: int) -> list[Launch]:
    """What is under way for this person, or this guest is in; newest first."""
    mine = sa.or_(Launch.guest_id == user_id, Launch.visitor == f"user:{user_id}")
    going = sa.and_(Launch.stage.not_in([*OVER, Stage.ENDING]), Launch.opening != BUILD_ONLY)
    return list(await db.scalars(sa.select(Launch).where(mine, going).order_by(Launch.id.desc())))


def of_server(db: Session, server_id: int) -> Launch | None:
    """The launch whose session this server is."""
    return db.scalars(sa.select(Launch).where(Launch.server_id == server_id)).one_or_none()


async def running(db: AsyncSession, user_id: int, provider: str, stem: str) -> Launch | None:
    """The newest session of this repository that is this person's, or that this guest is in."""
    mine = sa.or_(Launch.guest_id == user_id, Launch.visitor == f"user:{user_id}")
    same = sa.and_(Launch.provider == provider, Launch.stem == stem, Launch.stage == Stage.READY)
    return (
        await db.scalars(sa.select(Launch).where(mine, same).order_by(Launch.id.desc()).limit(1))
    ).one_or_none()


async def move(db: AsyncSession, launch: Launch, stage: Stage, *, now: datetime, **values: Any) -> bool:
    """Take it from the stage it was read in to another; False when it is not in that stage any more."""
    done = await db.execute(
        sa.update(Launch)
        .where(Launch.id == launch.id, Launch.stage == launch.stage)
        .values(stage=stage, stage_since=now, **values)
    )
    return bool(done.rowcount)  # type: ignore[attr-defined]


def say(db: AsyncSession, launch_id: int, phase: str, message: str, *, now: datetime) -> None:
    """Add a line to its story."""
    db.add(LaunchEvent(launch_id=launch_id, at=now, phase=phase, message=message))


async def story(db: AsyncSession, launch_id: int, after: int) -> list[LaunchEvent]:
    """The lines after the one with this id."""
    wanted = sa.and_(LaunchEvent.launch_id == launch_id, LaunchEvent.id > after)
    return list(await db.scalars(sa.select(LaunchEvent).where(wanted).order_by(LaunchEvent.id)))


async def purge(db: AsyncSession, *, older_than: datetime) -> None:
    """Forget launches that were over before then, with their stories."""
    await db.execute(sa.delete(Launch).where(Launch.stage.in_(OVER), Launch.stage_since < older_than))


# ------------------------------------------------------------------ places


async def seat(db: AsyncSession, section: EphemeralSection) -> list[int]:
    """Give free places to those who wait, in their order; their ids. Call it where nobody else can.

    Who is at a limit of their own, or of their repository, is passed over and keeps their turn.
    """
    seats = sa.select(Launch.url, Launch.visitor).where(Launch.stage.in_(UNDER_WAY), Launch.seated)
    taken = (await db.execute(seats)).all()
    if len(taken) >= section.total_limit:
        return []
    columns = (Launch.id, Launch.provider, Launch.spec, Launch.url, Launch.visitor)
    waiting = await db.execute(
        sa.select(*columns).where(Launch.stage == Stage.WAITING, ~Launch.seated).order_by(Launch.id)
    )
    urls, visitors = [row.url for row in taken], [row.visitor for row in taken]
    seated: list[int] = []
    for launch in waiting:
        if len(urls) >= section.total_limit:
            break
        most = section.rule(launch.provider, launch.spec).limit
        if most and urls.count(launch.url) >= most:
            continue
        if section.visitor_limit and visitors.count(launch.visitor) >= section.visitor_limit:
            continue
        urls.append(launch.url)
        visitors.append(launch.visitor)
        seated.append(launch.id)
    if seated:
        await db.execute(sa.update(Launch).where(Launch.id.in_(seated)).values(seated=True))
    return seated


async def heard(db: AsyncSession, launch_ids: Sequence[int], *, now: datetime) -> None:
    """Somebody waits for these at this moment; of no account for those that are no longer in the queue."""
    for at in range(0, len(launch_ids), 500):
        some = sa.and_(Launch.id.in_(launch_ids[at : at + 500]), QUEUE)
        await db.execute(
            sa.update(Launch).where(some).values(heard=now).execution_options(synchronize_session=False)
        )


async def give_up(db: AsyncSession, *, before: datetime, now: datetime) -> list[int]:
    """End those who wait for a place and for whom nobody has waited since then; their ids."""
    alone = sa.func.coalesce(Launch.heard, Launch.created) < before
    gone = sa.and_(Launch.stage == Stage.WAITING, ~Launch.seated, Launch.visitor != POOL, alone)
    ids = list(await db.scalars(sa.select(Launch.id).where(gone)))
    if ids:
        ended = {"stage": Stage.ENDING, "stage_since": now, "ended_because": NOBODY}
        await db.execute(
            sa.update(Launch)
            .where(Launch.id.in_(ids), gone)
            .values(**ended)
            .execution_options(synchronize_session=False)
        )
    return ids


async def standing(db: AsyncSession) -> Standing:
    """The whole queue."""
    rows = sa.select(Launch.id, Launch.seated).where(
        Launch.stage.in_(UNDER_WAY), sa.or_(QUEUE, Launch.seated)
    )
    found = (await db.execute(rows.order_by(Launch.id))).all()
    return Standing(tuple(row.id for row in found if not row.seated), sum(row.seated for row in found))


async def typical_s(db: AsyncSession, *, now: datetime) -> Typical | None:
    """How long a session of the last day had its place, on average; else the last ones before. None: none has ended."""
    ended = sa.and_(Launch.stage.in_(OVER), Launch.visitor != POOL, Launch.used_s > 0)
    lately = await db.scalar(
        sa.select(sa.func.avg(Launch.used_s)).where(ended, Launch.stage_since > now - DAY)
    )
    if lately is not None:
        return Typical(lately, True)
    last = sa.select(Launch.used_s).where(ended).order_by(Launch.id.desc()).limit(LAST_ONES).subquery()
    before = await db.scalar(sa.select(sa.func.avg(last.c.used_s)))
    return None if before is None else Typical(before, False)


async def take_uid(db: AsyncSession, launch: Launch, uids: range) -> int:
    """The lowest user id that no other session has; the row keeps it, and the database that it is unique."""
    if launch.uid is not None:
        return launch.uid
    taken = set(await db.scalars(sa.select(Launch.uid).where(Launch.uid.is_not(None))))
    free = next((uid for uid in uids if uid not in taken), None)
    if free is None:
        raise TooMany("Every account for sessions is in use.", retry_after_s=60)
    await db.execute(sa.update(Launch).where(Launch.id == launch.id).values(uid=free))
    return free


# ------------------------------------------------------------------ environments


async def begin_environment(db: AsyncSession, key: str, files: Collection[str], *, now: datetime) -> None:
    """Its row, as one that is being made; the lines and the failure of an earlier try are gone."""
    row = await db.get(Environment, key)
    if row is None:
        db.add(Environment(key=key, files=list(files), created=now, last_used=now))
        return
    row.created, row.ready, row.failure, row.bytes, row.unwanted = now, None, None, None, False
    await db.execute(sa.delete(BuildLine).where(BuildLine.environment == key))


async def end_environment(
    db: AsyncSession,
    key: str,
    *,
    now: datetime,
    failure: dict[str, Any] | None = None,
    size: int | None = None,
) -> None:
    """It is ready, or why it could not be made. A build that was cut off is neither."""
    values: dict[str, Any] = (
        {"failure": failure} if failure else {"ready": now, "last_used": now, "bytes": size}
    )
    await db.execute(sa.update(Environment).where(Environment.key == key).values(**values))


async def use_environment(db: AsyncSession, key: str, *, now: datetime) -> None:
    """It was used just now, and so it is there: a hub that was killed may have made it and not come to say so."""
    mine = sa.update(Environment).where(Environment.key == key)
    await db.execute(mine.values(last_used=now))
    await db.execute(mine.where(Environment.ready.is_(None)).values(ready=now))


async def ready_environments(db: AsyncSession) -> frozenset[str]:
    """Keys of those that are there, and are to stay."""
    there = sa.and_(Environment.ready.is_not(None), ~Environment.unwanted)
    return frozenset(await db.scalars(sa.select(Environment.key).where(there)))


async def environments(db: AsyncSession) -> list[Environment]:
    """All of them, those that were used last first."""
    return list(await db.scalars(sa.select(Environment).order_by(Environment.last_used.desc())))


async def clear_environment(db: AsyncSession, key: str) -> bool:
    """Have it removed once no session has it; False when there is none."""
    done = await db.execute(sa.update(Environment).where(Environment.key == key).values(unwanted=True))
    return bool(done.rowcount)  # type: ignore[attr-defined]


async def any_unwanted(db: AsyncSession) -> bool:
    """Whether an environment waits to be removed."""
    return await db.scalar(sa.select(Environment.key).where(Environment.unwanted).limit(1)) is not None


async def unused_environments(db: AsyncSession, in_use: Collection[str], *, before: datetime) -> list[str]:
    """Keys of those that are unwanted, or were last used before then, and that nobody of `in_use` has."""
    old = sa.or_(Environment.unwanted, Environment.last_used < before)
    rows = await db.scalars(sa.select(Environment.key).where(old))
    return [key for key in rows if key not in set(in_use)]


async def unfinished_environments(db: AsyncSession, in_use: Collection[str]) -> list[str]:
    """Keys of those that were begun, neither made nor failed, and that nobody of `in_use` waits for."""
    begun = sa.and_(Environment.ready.is_(None), Environment.failure.is_(None))
    rows = await db.scalars(sa.select(Environment.key).where(begun))
    return [key for key in rows if key not in set(in_use)]


async def forget_environments(db: AsyncSession, keys: Collection[str]) -> None:
    """These are gone from the disk, and so are their logs."""
    await db.execute(sa.delete(Environment).where(Environment.key.in_(keys)))


async def log_after(db: AsyncSession, key: str, after: int) -> list[BuildLine]:
    """What the installer said after the line with this id."""
    wanted = sa.and_(BuildLine.environment == key, BuildLine.id > after)
    return list(
        await db.scalars(sa.select(BuildLine).where(wanted).order_by(BuildLine.id).limit(LONGEST_LOG))
    )
