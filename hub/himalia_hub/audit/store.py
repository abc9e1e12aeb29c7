"""Queries on what was done. Rows are added by `record.py`, never changed, and deleted by age only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.audit.models import AuditRow


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows; an empty field does not narrow. `until` itself is left out."""

    kind: str = ""
    actor: str = ""
    target_user: str = ""
    since: datetime | None = None
    until: datetime | None = None


async def page_of(
    db: AsyncSession, wanted: Filter, *, offset: int, limit: int
) -> tuple[Sequence[AuditRow], int]:
    """One page, the newest first, and how many there are in all."""
    where = sa.and_(sa.true(), *_conditions(wanted))
    total = await db.scalar(sa.select(sa.func.count()).select_from(AuditRow).where(where)) or 0
    rows = sa.select(AuditRow).where(where).order_by(AuditRow.id.desc()).offset(offset).limit(limit)
    return list(await db.scalars(rows)), total


async def before(
    db: AsyncSession, wanted: Filter, before_id: int | None, *, limit: int
) -> Sequence[AuditRow]:
    """The newest rows that are older than the row `before_id`; for reading all of them bit by bit."""
    older = [AuditRow.id < before_id] if before_id is not None else []
    where = sa.and_(sa.true(), *_conditions(wanted), *older)
    return list(await db.scalars(sa.select(AuditRow).where(where).order_by(AuditRow.id.desc()).limit(limit)))


async def visits(
    db: AsyncSession, username: str, *, offset: int, limit: int
) -> tuple[Sequence[AuditRow], int]:
    """Who else opened this person's servers, the newest first, and how often in all."""
    return await page_of(db, Filter(kind="access", target_user=username), offset=offset, limit=limit)


async def purge(db: AsyncSession, *, older_than: datetime) -> None:
    """Delete what is older than the time that rows are kept."""
    await db.execute(sa.delete(AuditRow).where(AuditRow.at < older_than))


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.kind:
        found.append(AuditRow.kind == wanted.kind)
    if wanted.actor:
        found.append(sa.or_(AuditRow.actor == wanted.actor, AuditRow.on_behalf_of == wanted.actor))
    if wanted.target_user:
        found.append(AuditRow.target_user == wanted.target_user)
    if wanted.since is not None:
        found.append(AuditRow.at >= wanted.since)
    if wanted.until is not None:
        found.append(AuditRow.at < wanted.until)
    return found
