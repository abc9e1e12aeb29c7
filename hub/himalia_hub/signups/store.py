"""Queries on those who wait for an account. None of them commits."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub.auth import backoff
from himalia_hub.errors import NotFound
from himalia_hub.signups.models import SignUp
from himalia_hub.users import store as users
from himalia_hub.users.models import User

AT_MOST = 500
"""So many may wait: strangers must not be able to fill a table."""
KEPT = timedelta(days=30)


def ask(db: Session, asked: SignUp, *, now: datetime) -> bool:
    """Let them wait; False, and nothing is written, where the name is somebody's, or too many wait.

    TooMany, before anything is looked at, when the same address asks too often.
    """
    backoff.charge_asking(db, asked.address, now=now)
    db.execute(sa.delete(SignUp).where(SignUp.created < now - KEPT))
    waiting = db.scalar(sa.select(sa.func.count()).select_from(SignUp)) or 0
    taken = [
        db.scalar(sa.select(table.id).where(table.name == asked.name)) is not None for table in (User, SignUp)
    ]
    if waiting >= AT_MOST or any(taken):
        return False
    db.add(asked)
    return True


async def waiting(db: AsyncSession) -> list[SignUp]:
    """Everybody who waits, the first first."""
    return list(await db.scalars(sa.select(SignUp).order_by(SignUp.created, SignUp.id)))


async def count(db: AsyncSession) -> int:
    """How many wait."""
    return (await db.execute(_HOW_MANY)).scalar_one()


_HOW_MANY = sa.select(sa.func.count()).select_from(SignUp)


async def let_in(db: AsyncSession, sign_up_id: int, *, now: datetime) -> User:
    """Make the account. NotFound when it was decided meanwhile, Conflict when somebody got the name."""
    asked = await _take(db, sign_up_id)
    return await users.create(db, asked.name, now=now, password_hash=asked.password_hash)


async def refuse(db: AsyncSession, sign_up_id: int) -> str:
    """Forget them; their name. NotFound when it was decided meanwhile."""
    return (await _take(db, sign_up_id)).name


async def _take(db: AsyncSession, sign_up_id: int) -> SignUp:
    # Deleting the row decides the race: of two administrators only one gets it back.
    taken = await db.scalars(sa.delete(SignUp).where(SignUp.id == sign_up_id).returning(SignUp))
    asked = taken.one_or_none()
    if asked is None:
        raise NotFound("nobody waits under this number", remedy="another administrator may have decided")
    return asked
