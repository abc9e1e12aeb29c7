"""Queries on jobs. None of them commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.bulk.models import BulkItem, BulkJob
from himalia_hub.servers.models import Server
from himalia_hub.users.models import User

KEPT = timedelta(days=7)


async def create(
    db: AsyncSession, user_id: int, action: str, servers: Sequence[tuple[str, str]], *, now: datetime
) -> BulkJob:
    """A job with an item for each (person, server); what is older than KEPT goes."""
    await db.execute(sa.delete(BulkJob).where(BulkJob.created < now - KEPT))
    job = BulkJob(user_id=user_id, action=action, created=now)
    db.add(job)
    await db.flush()
    db.add_all(BulkItem(job_id=job.id, username=user, server_name=name) for user, name in servers)
    await db.flush()
    return job


async def find(db: AsyncSession, job_id: int, user_id: int) -> BulkJob | None:
    """The job, for who asked for it only."""
    job = await db.get(BulkJob, job_id)
    return job if job is not None and job.user_id == user_id else None


async def waiting(db: AsyncSession, job_id: int) -> list[int]:
    """The items that nobody has worked on."""
    left = sa.select(BulkItem.id).where(
        BulkItem.job_id == job_id, BulkItem.asked.is_(None), BulkItem.problem == ""
    )
    return list(await db.scalars(left.order_by(BulkItem.id)))


async def items(db: AsyncSession, job_id: int) -> list[tuple[BulkItem, Server | None]]:
    """Every item with the row of its server, as it is now."""
    same = sa.or_(
        Server.id == BulkItem.server_id,
        sa.and_(BulkItem.server_id.is_(None), Server.name == BulkItem.server_name, User.id == Server.user_id),
    )
    found = (
        sa.select(BulkItem, Server)
        .outerjoin(User, User.name == BulkItem.username)
        .outerjoin(Server, same)
        .where(BulkItem.job_id == job_id)
        .order_by(BulkItem.id)
    )
    return [(row[0], row[1]) for row in await db.execute(found)]
