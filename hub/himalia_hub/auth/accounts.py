"""Beginning and ending browser sign-ins: rows only, no HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub.db.base import insert_of
from himalia_hub.db.prepared import Prepared, columns_of
from himalia_hub.secrets import hash_token, mint
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import Login, User

RESOLUTION = timedelta(seconds=30)
"""As for requests: a row is not written anew for what nobody can see."""
_LOGINS, _USERS = cast("sa.Table", Login.__table__), cast("sa.Table", User.__table__)
_ENDED = Prepared(
    sa.delete(_LOGINS).where(
        _LOGINS.c.user_id == sa.bindparam("its_user"), _LOGINS.c.expires_at <= sa.bindparam("now")
    )
)
_BEGIN = Prepared(
    insert_of(Login), given=[column.key for column in columns_of(Login) if not column.primary_key]
)
_SEEN = Prepared(
    sa.update(_USERS).where(_USERS.c.id == sa.bindparam("its_user")).values(last_activity=sa.bindparam("now"))
)


def begin_login(
    db: Session, user: User, *, now: datetime, lasts: timedelta, user_agent: str = "", address: str = ""
) -> tuple[str, str]:
    """The session id of a new browser sign-in, and the secret for its cookie. Ended ones are swept out."""
    _ENDED.run(db, {"its_user": user.id, "now": now})
    secret, session_id = mint(32), uuid.uuid4().hex
    login = {
        "user_id": user.id,
        "session_id": session_id,
        "hashed": hash_token(secret),
        "created": now,
        "expires_at": now + lasts,
        "last_seen": now,
        "user_agent": user_agent[:255],
        "address": address[:64],
    }
    _BEGIN.run(db, login)
    if user.last_activity is None or user.last_activity < now - RESOLUTION:
        _SEEN.run(db, {"its_user": user.id, "now": now})
    return session_id, secret


async def logins_of(db: AsyncSession, user_id: int, *, now: datetime) -> list[Login]:
    """A person's sign-ins, the last used first."""
    mine = sa.and_(Login.user_id == user_id, Login.expires_at > now)
    return list(await db.scalars(sa.select(Login).where(mine).order_by(Login.last_seen.desc(), Login.id)))


@dataclass(frozen=True, slots=True)
class Ended:
    """A sign-in that has ended, or has lost what it had at some place: what its WebSockets are known by.

    `clients` are the OAuth clients, servers and services, that had been told by a token who this is. `tokens` are the
    hashes of tokens that programs may have opened WebSockets with; without a sign-in (`session_id` empty), only those.
    """

    session_id: str = ""
    clients: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()


def presented(client_id: str) -> bool:
    """Whether a program may open WebSockets with a token of this client: servers show nobody what they are issued."""
    return not client_id.startswith("jupyterhub-user-")


def end_login(db: Session, login: Login) -> Ended:
    """Sign out: the row goes, and with it every token that was issued through it."""
    # The row first: another hub may hold it while it gives such a token, which is then found here.
    db.execute(sa.delete(Login).where(Login.id == login.id))
    theirs = sa.delete(ApiToken).where(ApiToken.session_id == login.session_id)
    gone = db.execute(theirs.returning(ApiToken.client_id, ApiToken.hashed)).all()
    tokens = frozenset(hashed for client, hashed in gone if presented(client))
    return Ended(login.session_id, frozenset(client for client, _ in gone), tokens)


async def reach_of(
    db: AsyncSession, user_ids: Collection[int], service_ids: Collection[int] = ()
) -> list[Ended]:
    """Every sign-in and token of these people, and every token of these services, as if it ended now."""
    theirs = sa.select(Login.session_id).where(Login.user_id.in_(user_ids))
    clients: dict[str, set[str]] = {session_id: set() for session_id in await db.scalars(theirs)}
    tokens = sa.select(ApiToken.session_id, ApiToken.client_id).where(ApiToken.session_id.in_(clients))
    for session_id, client_id in await db.execute(tokens):
        clients[session_id or ""].add(client_id)
    ended = [Ended(session_id, frozenset(found)) for session_id, found in clients.items()]
    return [*ended, Ended(tokens=await tokens_of(db, user_ids, service_ids))]


async def tokens_of(
    db: AsyncSession, user_ids: Collection[int], service_ids: Collection[int] = ()
) -> frozenset[str]:
    """The hashes of these people's and services' tokens that programs may have opened WebSockets with."""
    theirs = sa.select(ApiToken.client_id, ApiToken.hashed).where(
        sa.or_(ApiToken.user_id.in_(user_ids), ApiToken.service_id.in_(service_ids)),
        ApiToken.server_id.is_(None),
    )
    return frozenset(hashed for client, hashed in await db.execute(theirs) if presented(client))
