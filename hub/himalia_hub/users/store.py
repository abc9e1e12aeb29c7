"""Queries on people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.errors import BadRequest, Conflict
from himalia_hub.users.models import Preference, User


def normalise(name: str) -> str:
    """The stored form of a user name; BadRequest names what is wrong with it."""
    clean = name.lower()
    if (
        not clean
        or len(clean) > 255
        or "/" in clean
        or clean != clean.strip()
        or not clean.strip(".")
        or not clean.isprintable()
    ):
        raise BadRequest(
            f"{name[:255]!r} cannot be a user name",
            remedy="1 to 255 printable characters, no slash, no blank at an end, not only dots",
        )
    return clean


_NAMED = sa.select(User).where(User.name == sa.bindparam("name"))
"""Built once: every request that names a person asks it."""


async def by_name(db: AsyncSession, name: str) -> User | None:
    """The person with this (normalised) name."""
    return (await db.scalars(_NAMED, {"name": name})).one_or_none()


async def count(db: AsyncSession) -> int:
    """How many people there are."""
    return await db.scalar(sa.select(sa.func.count()).select_from(User)) or 0


async def create(
    db: AsyncSession, name: str, *, now: datetime, admin: bool = False, password_hash: str | None = None
) -> User:
    """A new person; Conflict when the name is taken."""
    clean = normalise(name)
    if await by_name(db, clean) is not None:
        raise Conflict(f"user {clean!r} exists already")
    user = User(name=clean, admin=admin, password_hash=password_hash, created=now)
    db.add(user)
    await db.flush()
    return user


async def preference(db: AsyncSession, user_id: int, name: str) -> dict[str, Any] | None:
    """What the person chose, or None."""
    return (await db.execute(_PREFERENCE, {"user_id": user_id, "name": name})).scalar_one_or_none()


_PREFERENCE = sa.select(Preference.value).where(
    Preference.user_id == sa.bindparam("user_id"), Preference.name == sa.bindparam("name")
)


async def prefer(db: AsyncSession, user_id: int, name: str, value: dict[str, Any]) -> None:
    """Keep what the person chose, in place of what they chose before."""
    await db.merge(Preference(user_id=user_id, name=name, value=value))
