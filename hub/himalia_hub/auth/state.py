"""What a way to sign in gave to keep (JupyterHub's auth_state): encrypted in the rows of identities."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.auth.models import ExternalIdentity, SecondFactor
from himalia_hub.auth.vault import Vault


async def of_user(db: AsyncSession, vault: Vault, user_id: int) -> dict[str, Any] | None:
    """What is kept of a person, of all their identities, the newest first to count; None when there is nothing."""
    mine = sa.and_(ExternalIdentity.user_id == user_id, ExternalIdentity.state.is_not(None))
    rows = await db.scalars(sa.select(ExternalIdentity.state).where(mine).order_by(ExternalIdentity.id))
    found = [vault.open(row) for row in rows if row is not None]
    states = [each for each in found if isinstance(each, dict)]
    return {key: value for each in states for key, value in each.items()} if states else None


async def replace(db: AsyncSession, vault: Vault, user_id: int, kept: dict[str, Any] | None) -> bool:
    """Keep this of a person in place of what was; whether there is an identity elsewhere that it can be kept with."""
    mine = sa.select(ExternalIdentity.id).where(ExternalIdentity.user_id == user_id)
    first = await db.scalar(mine.order_by(ExternalIdentity.id).limit(1))
    await db.execute(
        sa.update(ExternalIdentity).where(ExternalIdentity.user_id == user_id).values(state=None)
    )
    if first is not None and kept is not None:
        this = sa.update(ExternalIdentity).where(ExternalIdentity.id == first)
        await db.execute(this.values(state=vault.lock(kept)))
    return first is not None


async def rekey(db: AsyncSession, vault: Vault) -> tuple[int, int]:
    """Encrypt everything with the first key; how many values, and how many that no key fits and that stay."""
    done = lost = 0
    columns = (
        (ExternalIdentity.id, ExternalIdentity.state),
        (SecondFactor.user_id, SecondFactor.secret),
    )
    for key, column in columns:
        for row_id, locked in (await db.execute(sa.select(key, column).where(column.is_not(None)))).all():
            again = vault.rekey(str(locked))
            if again is None:
                lost += 1
                continue
            await db.execute(
                sa.update(column.class_).where(key == row_id, column == locked).values({column.key: again})
            )
            done += 1
    return done, lost
