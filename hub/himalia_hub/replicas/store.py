"""Rows of hubs: who is there, and what they are asked. Wake-ups travel by NOTIFY; what matters is in the rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.replicas.models import Replica

CHANNEL = "himalia_hubs"
"""PostgreSQL notification channel; its payload says nothing."""


async def call(db: AsyncSession) -> None:
    """Have every hub look at its row once this is committed."""
    await db.execute(sa.select(sa.func.pg_notify(CHANNEL, "")))


async def others(db: AsyncSession, name: str, *, now: datetime) -> Sequence[Replica]:
    """The other hubs that are there, those that are leaving among them."""
    there = sa.select(Replica).where(Replica.name != name, Replica.seen_until >= now)
    return (await db.scalars(there.order_by(Replica.url))).all()


async def forget(db: AsyncSession, name: str, *, now: datetime) -> None:
    """Delete the row of a hub that is gone, and those of all that were not seen for long."""
    await db.execute(sa.delete(Replica).where(sa.or_(Replica.name == name, Replica.seen_until < now)))


async def ask_to_reload(db: AsyncSession, name: str, *, now: datetime) -> dict[str, int]:
    """Ask all others to read their configuration: their names, and the number that `reload_taken` is to reach."""
    asked = await db.execute(
        sa.update(Replica)
        .where(Replica.name != name, Replica.seen_until >= now, Replica.leaving.is_(False))
        .values(reload_asked=Replica.reload_asked + 1)
        .returning(Replica.name, Replica.reload_asked)
    )
    numbers = {row[0]: row[1] for row in asked}
    await call(db)
    return numbers


async def answer(db: AsyncSession, name: str, number: int, said: dict[str, Any]) -> None:
    """What this hub says to the question of that number, and to all before it."""
    await db.execute(
        sa.update(Replica).where(Replica.name == name).values(reload_taken=number, reload_answer=said)
    )
