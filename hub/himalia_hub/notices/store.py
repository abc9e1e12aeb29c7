"""Queries on announcements and maintenance."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.errors import NotFound
from himalia_hub.notices import maintenance
from himalia_hub.notices.models import Announcement, Maintenance
from himalia_hub.notices.notice import Level, Notice

LARGEST_ID = 2**31 - 1


def notice_of(row: Announcement) -> Notice:
    """A row as everything but this file sees it."""
    return Notice(row.id, cast("Level", row.level), row.text, row.starts, row.ends, row.author)


async def every(db: AsyncSession) -> list[Notice]:
    """All announcements, past and coming ones too, the newest start first."""
    newest = sa.select(Announcement).order_by(Announcement.starts.desc(), Announcement.id.desc())
    return [notice_of(row) for row in await db.scalars(newest)]


async def everything(db: AsyncSession) -> tuple[tuple[Notice, ...], Notice | None]:
    """All announcements, and the maintenance, over or not."""
    row = await db.get(Maintenance, 1)
    return tuple(await every(db)), None if row is None else maintenance.notice_of(row)


async def put(db: AsyncSession, said: Notice) -> Notice:
    """Write it: a new row for id 0, else in the place of that one. NotFound when there is none."""
    row = await _row(db, said.id) if said.id else Announcement()
    row.level, row.text, row.author = said.level, said.text, said.author
    row.starts, row.ends = said.starts, said.ends
    db.add(row)
    await db.flush()
    return notice_of(row)


async def take_down(db: AsyncSession, number: int) -> Notice:
    """Delete one; what it said. NotFound when there is none."""
    row = await _row(db, number)
    await db.delete(row)
    return notice_of(row)


async def get(db: AsyncSession, number: int) -> Notice:
    """One by its id. NotFound when there is none."""
    return notice_of(await _row(db, number))


async def purge(db: AsyncSession, *, older_than: datetime) -> None:
    """Forget what ended that long ago."""
    await db.execute(sa.delete(Announcement).where(Announcement.ends <= older_than))


async def _row(db: AsyncSession, number: int) -> Announcement:
    row = await db.get(Announcement, number) if 0 < number <= LARGEST_ID else None
    if row is None:
        raise NotFound(f"there is no announcement {number}")
    return row
