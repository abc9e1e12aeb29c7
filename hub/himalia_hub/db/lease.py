"""Named leases: a periodic job runs in one replica at a time (route sync, culling, purging)."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class JobLease(Base):
    """Who runs a singleton job, and until when."""

    __tablename__ = "job_leases"

    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(sa.String(128))
    until: Mapped[datetime]


async def give_up(db: AsyncSession, owner: str) -> None:
    """Free every lease of an owner that is gone or going, so that nobody waits for their end."""
    await db.execute(sa.delete(JobLease).where(JobLease.owner == owner))


async def take(db: AsyncSession, name: str, owner: str, *, now: datetime, ttl: timedelta) -> bool:
    """Take or renew the lease; False while another owner holds it."""
    renewed = await db.execute(
        sa.update(JobLease)
        .where(JobLease.name == name, sa.or_(JobLease.owner == owner, JobLease.until < now))
        .values(owner=owner, until=now + ttl)
    )
    if renewed.rowcount:  # type: ignore[attr-defined]
        return True
    if await db.get(JobLease, name) is not None:
        return False
    try:
        async with db.begin_nested():
            db.add(JobLease(name=name, owner=owner, until=now + ttl))
    except sa.exc.IntegrityError:  # another replica was first
        return False
    return True
