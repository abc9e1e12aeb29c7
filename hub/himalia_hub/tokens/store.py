"""Queries on tokens."""

from __future__ import annotations

import functools
import itertools
from datetime import datetime, timedelta
from typing import cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub.auth.accounts import Ended, presented
from himalia_hub.db.base import insert_unless_there
from himalia_hub.db.prepared import Prepared, columns_of, detached
from himalia_hub.errors import Conflict
from himalia_hub.secrets import hash_token, mint
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.services.models import Service
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User

OWN = "jupyterhub"
"""The client of tokens that nobody but their person asked for."""

_LIVE = Prepared(
    sa.select(*columns_of(ApiToken), *columns_of(User), *columns_of(Service), Server.name)
    .select_from(ApiToken)
    .outerjoin(User, User.id == ApiToken.user_id)
    .outerjoin(Service, Service.id == ApiToken.service_id)
    .outerjoin(Server, Server.id == ApiToken.server_id)
    .where(ApiToken.hashed == sa.bindparam("hash"))
    .where(sa.or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > sa.bindparam("now")))
    .where(User.suspended.is_(None))  # also true for a service, which has no person
)
"""Built once: it is asked at each request, the next at each start."""
_TABLE = cast("sa.Table", ApiToken.__table__)
_OLDER = Prepared(
    sa.delete(_TABLE).where(
        _TABLE.c.server_id == sa.bindparam("of_server"), _TABLE.c.hashed != sa.bindparam("hash")
    )
)
_OF_SERVER = Prepared(
    functools.partial(insert_unless_there, ApiToken),
    given=("user_id", "server_id", "incarnation", "hashed", "scopes", "note", "created"),
)


async def find_by_secret(
    db: AsyncSession, token: str, *, now: datetime
) -> tuple[ApiToken, User | Service, str | None] | None:
    """The live token with this secret, its owner, and the name of the server that it is of, if it is of one: all to
    look at. None when unknown, expired or its person suspended.
    """
    row = await db.run_sync(_LIVE.row, {"hash": hash_token(token), "now": now})
    if row is None:
        return None
    person, service, server = itertools.accumulate(len(columns_of(one)) for one in (ApiToken, User, Service))
    owner = detached(User, row[person:service]) if row[person] is not None else None
    return (
        detached(ApiToken, row[:person]),
        owner or detached(Service, row[service:server]),
        row[server],
    )


async def issue(
    db: AsyncSession,
    user_id: int,
    *,
    now: datetime,
    scopes: list[str],
    note: str = "",
    expires_in: timedelta | None = None,
    client_id: str = OWN,
    session_id: str | None = None,
) -> tuple[ApiToken, str]:
    """A new token row and its secret, which is shown once and never stored."""
    secret = mint()
    row = ApiToken(
        user_id=user_id,
        client_id=client_id,
        session_id=session_id,
        hashed=hash_token(secret),
        scopes=scopes,
        note=note,
        created=now,
        expires_at=None if expires_in is None else now + expires_in,
    )
    db.add(row)
    await db.flush()
    return row, secret


async def revoke(db: AsyncSession, row: ApiToken) -> list[Ended]:
    """End it; one issued to a program, with all of its person's for the same program. What is to be cut with them."""
    gone = sa.delete(ApiToken).where(ApiToken.id == row.id)
    if row.client_id != OWN:
        gone = sa.delete(ApiToken).where(ApiToken.client_id == row.client_id, ApiToken.user_id == row.user_id)
    ended = (await db.execute(gone.returning(ApiToken.session_id, ApiToken.hashed))).all()
    sessions = {session for session, _ in ended if session}
    tokens = frozenset(hashed for _, hashed in ended) if presented(row.client_id) else frozenset()
    return [*(Ended(session, frozenset({row.client_id})) for session in sessions), Ended(tokens=tokens)]


def put_server_token(
    db: Session,
    *,
    user_id: int,
    server_id: int,
    incarnation: str,
    secret: str,
    prefix: str,
    now: datetime,
) -> None:
    """Make `secret` the only token of this server. Repeating it with the same secret changes nothing."""
    hashed = hash_token(secret)
    _OLDER.run(db, {"of_server": server_id, "hash": hashed})
    token = {
        "user_id": user_id,
        "server_id": server_id,
        "incarnation": incarnation,
        "hashed": hashed,
        "scopes": ["users:activity!user", "access:servers!server"],
        "note": f"Server at {prefix}",
        "created": now,
    }
    _OF_SERVER.rows(db, token)


async def put_service_token(
    db: AsyncSession, *, service_id: int, secret: str | None, now: datetime
) -> frozenset[str]:
    """Make `secret` the only token of this service; None leaves it with none. Repeating it changes nothing. The hashes
    of those that ended.
    """
    theirs, hashed = ApiToken.service_id == service_id, hash_token(secret) if secret else ""
    older = sa.delete(ApiToken).where(theirs, ApiToken.hashed != hashed)
    ended = frozenset(await db.scalars(older.returning(ApiToken.hashed)))
    if not secret or await db.scalar(sa.select(ApiToken.id).where(theirs, ApiToken.hashed == hashed)):
        return ended
    if await db.scalar(sa.select(ApiToken.id).where(ApiToken.hashed == hashed)):
        raise Conflict("the API token of a service must not be one that somebody else has")
    note = "of the service itself"
    db.add(ApiToken(service_id=service_id, hashed=hashed, scopes=["inherit"], note=note, created=now))
    return ended


async def end_service(db: AsyncSession, service_id: int, client_id: str | None) -> frozenset[str]:
    """End the tokens of a service, its own and those issued to people through its OAuth client; their hashes."""
    theirs = sa.or_(ApiToken.service_id == service_id, ApiToken.client_id == (client_id or ""))
    return frozenset(await db.scalars(sa.delete(ApiToken).where(theirs).returning(ApiToken.hashed)))


def revoke_server_tokens(db: Session, *, server_id: int, client_id: str) -> None:
    """End a stopped server's own token and every token issued to visitors through its OAuth client."""
    db.execute(
        sa.delete(ApiToken).where(sa.or_(ApiToken.server_id == server_id, ApiToken.client_id == client_id))
    )


def _orphaned() -> sa.ColumnElement[bool]:
    running = sa.select(Server.id).where(
        sa.or_(Server.desired != Desired.STOPPED, Server.phase != Phase.STOPPED, Server.due_at.is_not(None))
    )
    return sa.and_(ApiToken.server_id.is_not(None), ApiToken.server_id.not_in(running))


async def without_server(db: AsyncSession) -> list[int]:
    """Ids of servers' own tokens whose server is stopped for good or has no row."""
    return list(await db.scalars(sa.select(ApiToken.id).where(_orphaned())))


async def revoke_orphan(db: AsyncSession, token_id: int) -> None:
    """End this token if its server still is not there."""
    await db.execute(sa.delete(ApiToken).where(ApiToken.id == token_id, _orphaned()))


async def list_for_user(db: AsyncSession, user_id: int) -> list[ApiToken]:
    """A person's tokens, oldest first."""
    return list(
        await db.scalars(sa.select(ApiToken).where(ApiToken.user_id == user_id).order_by(ApiToken.id))
    )


async def server_names(db: AsyncSession, rows: list[ApiToken]) -> dict[int, str]:
    """The names, by id, of the servers that these tokens are of."""
    ids = {row.server_id for row in rows if row.server_id is not None}
    if not ids:
        return {}
    found = await db.execute(sa.select(Server.id, Server.name).where(Server.id.in_(ids)))
    return {row[0]: row[1] for row in found}


async def purge_expired(db: AsyncSession, *, now: datetime) -> int:
    """Delete every token whose time is over; how many."""
    done = await db.execute(sa.delete(ApiToken).where(ApiToken.expires_at <= now))
    return int(done.rowcount)  # type: ignore[attr-defined]
