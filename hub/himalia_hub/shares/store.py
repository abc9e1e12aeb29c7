"""Queries on shares and share codes. None of them commits."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from himalia_hub.groups.models import Group, Membership
from himalia_hub.importing import tokens as imported
from himalia_hub.secrets import hash_token, mint
from himalia_hub.servers.models import Server
from himalia_hub.shares.models import Share, ShareCode
from himalia_hub.shares.view import Shared
from himalia_hub.users.models import User

Owner = aliased(User, name="owner")
LARGEST_ID = 2**31 - 1


def _live(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(Share.expires_at.is_(None), Share.expires_at > now)


def on_server(server: Server) -> sa.ColumnElement[bool]:
    """Which shares: those of one server."""
    return Share.server_id == server.id


def of_owner(owner: User) -> sa.ColumnElement[bool]:
    """Which shares: those of one person's servers."""
    return Share.server_id.in_(sa.select(Server.id).where(Server.user_id == owner.id))


def with_user(user: User, *, by_group: bool) -> sa.ColumnElement[bool]:
    """Which shares: those with one person, also those through their groups when asked."""
    direct = Share.user_id == user.id
    theirs = sa.select(Membership.group_id).where(Membership.user_id == user.id)
    return sa.or_(direct, Share.group_id.in_(theirs)) if by_group else direct


def with_group(group: Group) -> sa.ColumnElement[bool]:
    """Which shares: those with one group."""
    return Share.group_id == group.id


async def page_of(
    db: AsyncSession, which: sa.ColumnElement[bool], *, now: datetime, offset: int = 0, limit: int = 200
) -> tuple[list[Shared], int]:
    """Shares, the oldest first, and how many there are in all; those that are over are none."""
    condition = sa.and_(which, _live(now))
    total = await db.scalar(sa.select(sa.func.count()).select_from(Share).where(condition)) or 0
    rows = await db.execute(
        sa.select(Share, Owner.name, Server, User.name, Group.name)
        .join(Server, Server.id == Share.server_id)
        .join(Owner, Owner.id == Server.user_id)
        .outerjoin(User, User.id == Share.user_id)
        .outerjoin(Group, Group.id == Share.group_id)
        .where(condition)
        .order_by(Share.id)
        .offset(offset)
        .limit(limit)
    )
    return [Shared(*row) for row in rows], total


async def find(db: AsyncSession, server: Server, target: User | Group, *, now: datetime) -> Shared | None:
    """The share of this server with this person or group."""
    theirs = with_user(target, by_group=False) if isinstance(target, User) else with_group(target)
    found, _ = await page_of(db, sa.and_(on_server(server), theirs), now=now)
    return found[0] if found else None


async def grant(
    db: AsyncSession,
    server: Server,
    target: User | Group,
    scopes: Collection[str],
    *,
    now: datetime,
    lasts: timedelta | None = None,
) -> Share:
    """Let this person or group do so much more with the server. Asked again, the last word on its end counts."""
    holder = {"user_id": target.id} if isinstance(target, User) else {"group_id": target.id}
    until = None if lasts is None else now + lasts
    await db.execute(sa.delete(Share).where(on_server(server), ~_live(now)))
    try:
        async with db.begin_nested():
            row = Share(server_id=server.id, scopes=sorted(scopes), created=now, expires_at=until, **holder)
            db.add(row)
            await db.flush()
    except sa.exc.IntegrityError:
        row = (await db.scalars(sa.select(Share).filter_by(server_id=server.id, **holder))).one()
        row.scopes, row.expires_at = sorted({*row.scopes, *scopes}), until
        await db.flush()
    return row


async def revoke(db: AsyncSession, row: Share, scopes: Collection[str] | None) -> bool:
    """Take these rights from a share, or all of them; whether anything is left."""
    left = [] if scopes is None else [scope for scope in row.scopes if scope not in scopes]
    if left:
        row.scopes = left
        await db.flush()
    else:
        await db.execute(sa.delete(Share).where(Share.id == row.id))
    return bool(left)


async def revoke_all(db: AsyncSession, server: Server) -> None:
    """End every share of a server."""
    await db.execute(sa.delete(Share).where(on_server(server)))


# ------------------------------------------------------------------ codes


async def codes(
    db: AsyncSession, owner: User, server: Server | None, *, now: datetime, offset: int = 0, limit: int = 200
) -> tuple[list[tuple[ShareCode, Server]], int]:
    """The codes of a server, or of all servers of its owner, and how many there are in all."""
    condition = [Server.user_id == owner.id, ShareCode.expires_at > now]
    if server is not None:
        condition.append(Server.id == server.id)
    found = sa.select(ShareCode, Server).join(Server, Server.id == ShareCode.server_id).where(*condition)
    total = await db.scalar(sa.select(sa.func.count()).select_from(found.subquery())) or 0
    rows = await db.execute(found.order_by(ShareCode.id).offset(offset).limit(limit))
    return [(code, of) for code, of in rows], total


async def new_code(
    db: AsyncSession, server: Server, scopes: Collection[str], *, now: datetime, lasts: timedelta
) -> tuple[ShareCode, str]:
    """A new code, of which only the hash is kept."""
    code = mint(32)
    row = ShareCode(
        server_id=server.id,
        hashed=hash_token(code),
        scopes=sorted(scopes),
        created=now,
        expires_at=now + lasts,
        exchange_count=0,
    )
    db.add(row)
    await db.flush()
    return row, code


async def find_code(db: AsyncSession, code: str, *, now: datetime) -> tuple[ShareCode, Server, User] | None:
    """The code with the server it is for and its owner; None when it is unknown or over."""
    rows = await db.execute(
        sa.select(ShareCode, Server, User)
        .join(Server, Server.id == ShareCode.server_id)
        .join(User, User.id == Server.user_id)
        .where(await _is(db, code), ShareCode.expires_at > now)
    )
    row = rows.one_or_none()
    return None if row is None else (row[0], row[1], row[2])


async def _is(db: AsyncSession, code: str) -> sa.ColumnElement[bool]:
    theirs = await imported.code_of(db, code)
    return ShareCode.hashed == hash_token(code) if theirs is None else ShareCode.id == theirs


async def exchange(db: AsyncSession, code: ShareCode, server: Server, user: User, *, now: datetime) -> Share:
    """Make the code a share with this person. It stays good for others."""
    counted = {"exchange_count": ShareCode.exchange_count + 1, "last_exchanged": now}
    await db.execute(sa.update(ShareCode).where(ShareCode.id == code.id).values(counted))
    return await grant(db, server, user, code.scopes, now=now)


async def delete_codes(db: AsyncSession, server: Server, *, code: str = "", number: int | None = None) -> int:
    """End all codes of a server, or the one that is named by itself or by its number; how many."""
    which: list[Any] = [ShareCode.server_id == server.id]
    if code:
        which.append(await _is(db, code))
    elif number is not None:
        which.append(ShareCode.id == min(number, LARGEST_ID))
    return int((await db.execute(sa.delete(ShareCode).where(*which))).rowcount)  # type: ignore[attr-defined]


async def purge(db: AsyncSession, *, now: datetime) -> None:
    """Delete what is over."""
    await db.execute(sa.delete(Share).where(Share.expires_at <= now))
    await db.execute(sa.delete(ShareCode).where(ShareCode.expires_at <= now))
