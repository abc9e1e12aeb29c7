"""The query behind the admin list."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.users.models import User


async def find_people(db: AsyncSession, needle: str, *, offset: int, limit: int) -> tuple[int, list[User]]:
    """How many people have `needle` in their name, and one page of them by name."""
    matching = User.name.contains(needle.strip().lower(), autoescape=True) if needle.strip() else sa.true()
    total = await db.scalar(sa.select(sa.func.count()).select_from(User).where(matching)) or 0
    rows = await db.scalars(sa.select(User).where(matching).order_by(User.name).offset(offset).limit(limit))
    return total, list(rows)
