"""Queries on groups. None of them commits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub.db.prepared import Prepared
from himalia_hub.errors import BadRequest, Conflict
from himalia_hub.groups.models import Group, Membership
from himalia_hub.groups.names import GroupName, is_name
from himalia_hub.users.models import User


async def by_name(db: AsyncSession, name: str) -> Group | None:
    """The group of this name."""
    return (await db.scalars(sa.select(Group).where(Group.name == name))).one_or_none()


async def page_of(
    db: AsyncSession, *, only: Collection[str] | None, offset: int, limit: int
) -> tuple[list[Group], int]:
    """Groups by name, and how many there are in all; `only` narrows to these names."""
    wanted = sa.select(Group) if only is None else sa.select(Group).where(Group.name.in_(only))
    total = await db.scalar(sa.select(sa.func.count()).select_from(wanted.subquery())) or 0
    found = await db.scalars(wanted.order_by(Group.name).offset(offset).limit(limit))
    return list(found), total


async def create(db: AsyncSession, name: str) -> Group:
    """A new, empty group; Conflict when the name is taken, BadRequest when it cannot be one."""
    if not is_name(name):
        raise BadRequest(
            f"{name[:255]!r} cannot be a group name", remedy="1 to 255 printable characters, no slash"
        )
    if await by_name(db, name) is not None:
        raise Conflict(f"group {name!r} exists already")
    group = Group(name=name, properties={})
    db.add(group)
    await db.flush()
    return group


async def people(db: AsyncSession, names: Sequence[str]) -> list[User]:
    """The people of these names; BadRequest names the first that does not exist."""
    found = {user.name: user for user in await db.scalars(sa.select(User).where(User.name.in_(names)))}
    for name in names:
        if name not in found:
            raise BadRequest(f"there is no user {name!r}")
    return list(found.values())


async def add(db: AsyncSession, group: Group, users: Sequence[User]) -> None:
    """Put people into a group by hand. Being in it already is fine; no sign-in takes them out then."""
    ours = Membership.group_id == group.id
    there = set(await db.scalars(sa.select(Membership.user_id).where(ours)))
    given = ours, Membership.given_by.is_not(None), Membership.user_id.in_([user.id for user in users])
    await db.execute(sa.update(Membership).where(*given).values(given_by=None))
    db.add_all(Membership(user_id=user.id, group_id=group.id) for user in users if user.id not in there)
    await db.flush()


async def remove(db: AsyncSession, group: Group, users: Sequence[User]) -> None:
    """Take people out of a group. Not being in it is fine."""
    leaving = [user.id for user in users]
    await db.execute(
        sa.delete(Membership).where(Membership.group_id == group.id, Membership.user_id.in_(leaving))
    )


async def set_manager(db: AsyncSession, group: Group, users: Sequence[User], *, manager: bool) -> None:
    """Make members of a group its managers, or no longer."""
    theirs = Membership.user_id.in_([user.id for user in users])
    await db.execute(
        sa.update(Membership).where(Membership.group_id == group.id, theirs).values(manager=manager)
    )


async def managers_of(db: AsyncSession, group_ids: Sequence[int]) -> dict[int, list[str]]:
    """The names of who manages each of these groups, sorted."""
    found: dict[int, list[str]] = {group_id: [] for group_id in group_ids}
    rows = await db.execute(
        sa.select(Membership.group_id, User.name)
        .join(User, User.id == Membership.user_id)
        .where(Membership.group_id.in_(group_ids), Membership.manager)
        .order_by(User.name)
    )
    for group_id, name in rows:
        found[group_id].append(name)
    return found


async def managers(db: AsyncSession, group: Group) -> list[str]:
    """The names of who manages a group, sorted."""
    found = (
        sa.select(User.name)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.group_id == group.id, Membership.manager)
        .order_by(User.name)
    )
    return list(await db.scalars(found))


async def members(db: AsyncSession, group_ids: Sequence[int]) -> dict[int, list[str]]:
    """The names of the people in each of these groups, sorted."""
    named: dict[int, list[str]] = {group_id: [] for group_id in group_ids}
    rows = await db.execute(
        sa.select(Membership.group_id, User.name)
        .join(User, User.id == Membership.user_id)
        .where(Membership.group_id.in_(group_ids))
        .order_by(User.name)
    )
    for group_id, name in rows:
        named[group_id].append(name)
    return named


async def member_ids(db: AsyncSession, group: Group) -> set[int]:
    """Who is in a group, by row."""
    return set(await db.scalars(sa.select(Membership.user_id).where(Membership.group_id == group.id)))


async def of_users(db: AsyncSession, user_ids: Sequence[int]) -> dict[int, list[str]]:
    """The names of the groups each of these people is in, sorted; `GroupName`s, here and below."""
    named: dict[int, list[str]] = {user_id: [] for user_id in user_ids}
    for name, profiles, user_id in await db.execute(_OF_USERS, {"user_ids": user_ids}):
        named[user_id].append(GroupName(name, profiles))
    return named


async def of_user(db: AsyncSession, user_id: int) -> list[str]:
    """The names of the groups this person is in, sorted."""
    return _names(await db.run_sync(_OF_USER.rows, {"user_id": user_id}))


def names_of(db: Session, user_id: int) -> list[str]:
    """The same, for `Database.write`."""
    return _names(_OF_USER.rows(db, {"user_id": user_id}))


async def of_name(db: AsyncSession, username: str) -> list[str]:
    """The names of the groups the person of this name is in, sorted."""
    found = _joined().join(User, User.id == Membership.user_id).where(User.name == username)
    return _names((await db.execute(found)).all())


def _names(rows: Sequence[Any]) -> list[str]:
    return [GroupName(name, profiles) for name, profiles in rows]


def _joined() -> sa.Select[str, list[str]]:
    joined = sa.select(Group.name, Group.profiles).join(Membership, Membership.group_id == Group.id)
    return joined.order_by(Group.name)


_OF_USER = Prepared(_joined().where(Membership.user_id == sa.bindparam("user_id")))
"""Built once, as the next: every start asks it twice."""
_OF_USERS = (
    _joined()
    .add_columns(Membership.user_id)
    .where(Membership.user_id.in_(sa.bindparam("user_ids", expanding=True)))
)
