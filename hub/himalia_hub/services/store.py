"""Queries on services. None of them commits."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.services.models import Service


async def by_name(db: AsyncSession, name: str) -> Service | None:
    """The service of this name."""
    return (await db.scalars(sa.select(Service).where(Service.name == name))).one_or_none()


async def all_of(db: AsyncSession, only: Collection[str] | None = None) -> list[Service]:
    """Every service by name; `only` narrows to these names."""
    wanted = sa.select(Service) if only is None else sa.select(Service).where(Service.name.in_(only))
    return list(await db.scalars(wanted.order_by(Service.name)))


async def client_id_taken(db: AsyncSession, client_id: str) -> bool:
    """Whether a service is this OAuth client."""
    found = await db.scalar(sa.select(Service.id).where(Service.oauth_client_id == client_id))
    return found is not None


async def set_pid(db: AsyncSession, name: str, pid: int) -> None:
    """Note the process of a managed service; 0 for none."""
    await db.execute(sa.update(Service).where(Service.name == name).values(pid=pid))
