"""Queries on roles and who has them. None of them commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.errors import BadRequest
from himalia_hub.groups.models import Group, Membership
from himalia_hub.rbac.models import Role, RoleAssignment, RoleFromSignIn
from himalia_hub.services.models import Service
from himalia_hub.users.models import User

HOLDERS: dict[str, tuple[type[Any], Any]] = {
    "user": (User, RoleAssignment.user_id),
    "group": (Group, RoleAssignment.group_id),
    "service": (Service, RoleAssignment.service_id),
}


async def by_name(db: AsyncSession, name: str) -> Role | None:
    """The role of this name, if it is a row."""
    return (await db.scalars(sa.select(Role).where(Role.name == name))).one_or_none()


async def every(db: AsyncSession) -> list[Role]:
    """Every role that is a row, by name."""
    return list(await db.scalars(sa.select(Role).order_by(Role.name)))


async def holders(db: AsyncSession, role: Role, *, now: datetime) -> list[tuple[str, str, datetime | None]]:
    """(kind, name, until when) of who has a role, by kind and name."""
    found: list[tuple[str, str, datetime | None]] = []
    for kind, (model, column) in HOLDERS.items():
        rows = await db.execute(
            sa.select(model.name, RoleAssignment.expires_at)
            .join(model, model.id == column)
            .where(RoleAssignment.role_id == role.id)
            .where(sa.or_(RoleAssignment.expires_at.is_(None), RoleAssignment.expires_at > now))
            .order_by(model.name)
        )
        found += [(kind, name, until) for name, until in rows]
    given = sa.select(User.name).join(RoleFromSignIn, RoleFromSignIn.user_id == User.id)
    names = await db.scalars(given.where(RoleFromSignIn.role == role.name).order_by(User.name).distinct())
    return found + [("user", name, None) for name in names if ("user", name, None) not in found]


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Who has a role, by their ids."""

    people: frozenset[int] = frozenset()
    services: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.people or self.services)

    def __sub__(self, others: HeldBy) -> HeldBy:
        return HeldBy(self.people - others.people, self.services - others.services)


async def held_by(db: AsyncSession, role: Role, *, now: datetime) -> HeldBy:
    """Who has a role: people by themselves, by a group or by a sign-in, and services."""
    live = sa.or_(RoleAssignment.expires_at.is_(None), RoleAssignment.expires_at > now)
    assigned = sa.select(RoleAssignment).where(RoleAssignment.role_id == role.id, live).subquery()
    ways = (
        sa.select(assigned.c.user_id).where(assigned.c.user_id.is_not(None)),
        sa.select(Membership.user_id).join(assigned, assigned.c.group_id == Membership.group_id),
        sa.select(RoleFromSignIn.user_id).where(RoleFromSignIn.role == role.name),
    )
    people = {user_id for way in ways for user_id in await db.scalars(way)}
    programs = sa.select(assigned.c.service_id).where(assigned.c.service_id.is_not(None))
    return HeldBy(frozenset(people), frozenset(await db.scalars(programs)))


async def give(
    db: AsyncSession, role: Role, kind: str, names: Sequence[str], *, until: datetime | None
) -> None:
    """Give a role; who has it already has it until the new time. BadRequest names who does not exist."""
    column = HOLDERS[kind][1]
    await take(db, role, kind, names)
    for row_id in (await _ids(db, kind, names)).values():
        db.add(RoleAssignment(role_id=role.id, expires_at=until, **{column.key: row_id}))


async def take(db: AsyncSession, role: Role, kind: str, names: Sequence[str]) -> None:
    """Take a role; not having it is fine. BadRequest names who does not exist."""
    column, ids = HOLDERS[kind][1], await _ids(db, kind, names)
    await db.execute(
        sa.delete(RoleAssignment).where(RoleAssignment.role_id == role.id, column.in_(ids.values()))
    )
    if kind == "user":  # until their next sign-in, perhaps
        given = RoleFromSignIn.role == role.name, RoleFromSignIn.user_id.in_(ids.values())
        await db.execute(sa.delete(RoleFromSignIn).where(*given))


async def purge(db: AsyncSession, *, now: datetime) -> None:
    """Delete assignments whose time is over."""
    await db.execute(sa.delete(RoleAssignment).where(RoleAssignment.expires_at <= now))


async def _ids(db: AsyncSession, kind: str, names: Sequence[str]) -> dict[str, int]:
    model = HOLDERS[kind][0]
    rows = await db.execute(sa.select(model.name, model.id).where(model.name.in_(names)))
    found: dict[str, int] = {row.name: row.id for row in rows}
    for name in names:
        if name not in found:
            raise BadRequest(f"there is no {kind} {name[:80]!r}")
    return found
