"""Queries on clients and codes. Clients are no rows of their own: each running server is one, and many services."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.oauth.models import OAuthCode
from himalia_hub.oauth.provider import (
    CODE_LIFE_S,
    Client,
    ServerClient,
    ServiceClient,
    Wish,
    possible_servers,
)
from himalia_hub.secrets import hash_token, mint
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import server_url
from himalia_hub.services.models import Service
from himalia_hub.services.settings import CLIENT_PREFIX
from himalia_hub.services.view import redirect_uri
from himalia_hub.settings import HubSettings
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import Login, User


async def clients(
    db: AsyncSession, client_id: str, settings: HubSettings, *, secret: str | None = None
) -> list[Client]:
    """Who has a token and can be meant by this id; with `secret`, only the one whose token it is.

    It can mean several servers, or else one service.
    """
    if client_id.startswith(CLIENT_PREFIX):
        return await _services(db, client_id, settings, secret)
    pairs = possible_servers(client_id)
    if not pairs:
        return []
    own_token = sa.select(ApiToken.id).where(ApiToken.server_id == Server.id)
    if secret is not None:
        own_token = own_token.where(ApiToken.hashed == hash_token(secret))
    found = await db.execute(
        sa.select(User.name, Server.name)
        .join(User, User.id == Server.user_id)
        .where(User.name.in_({user for user, _ in pairs}), Server.name.in_({name for _, name in pairs}))
        .where(own_token.exists())
    )
    return [
        ServerClient(client_id, f"{server_url(settings, user, name)}oauth_callback", user, name)
        for user, name in found
        if (user, name) in pairs
    ]


async def _services(
    db: AsyncSession, client_id: str, settings: HubSettings, secret: str | None
) -> list[Client]:
    own_token = sa.select(ApiToken.id).where(ApiToken.service_id == Service.id)
    if secret is not None:
        own_token = own_token.where(ApiToken.hashed == hash_token(secret))
    found = await db.scalars(
        sa.select(Service).where(Service.oauth_client_id == client_id, own_token.exists())
    )
    return [
        ServiceClient(
            client_id,
            redirect_uri(settings, row),
            row.name,
            tuple(row.oauth_client_allowed_scopes),
            row.oauth_no_confirm,
        )
        for row in found
    ]


async def has_token(
    db: AsyncSession, client: Client, scopes: Collection[str], user_id: int, *, now: datetime
) -> bool:
    """Whether this visitor agreed to these scopes for this client before."""
    found = await db.scalars(
        sa.select(ApiToken).where(
            ApiToken.client_id == client.client_id,
            ApiToken.user_id == user_id,
            sa.or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > now),
        )
    )
    # By scope, not only by id: two servers can share a client id.
    return any({client.access_scope, *scopes} <= set(token.scopes) for token in found)


async def put_code(
    db: AsyncSession,
    client: Client,
    wish: Wish,
    scopes: list[str],
    *,
    user_id: int,
    session_id: str | None,
    now: datetime,
) -> str:
    """A new code, of which only the hash is kept."""
    code = mint()
    db.add(
        OAuthCode(
            hashed=hash_token(code),
            client_id=client.client_id,
            user_id=user_id,
            session_id=session_id,
            redirect_uri=client.redirect_uri,
            scopes=scopes,
            code_challenge=wish.challenge,
            code_challenge_method=wish.method,
            expires_at=now + timedelta(seconds=CODE_LIFE_S),
        )
    )
    return code


async def take_code(db: AsyncSession, client: Client, code: str, *, now: datetime) -> OAuthCode | None:
    """The code, gone from then on; None when unknown, used, over, another client's, or signed out since.

    The redirect URI names the server for which it was issued, also where two share a client id.
    """
    signed_in = sa.select(Login.session_id).where(Login.expires_at > now)
    taken = await db.scalars(
        sa.delete(OAuthCode)
        .where(OAuthCode.hashed == hash_token(code), OAuthCode.expires_at > now)
        .where(OAuthCode.client_id == client.client_id, OAuthCode.redirect_uri == client.redirect_uri)
        .where(sa.or_(OAuthCode.session_id.is_(None), OAuthCode.session_id.in_(signed_in)))
        .returning(OAuthCode)
    )
    return taken.one_or_none()


async def left_of(db: AsyncSession, session_id: str, *, now: datetime) -> timedelta:
    """How long this sign-in goes on. No other hub ends it before this transaction, and then what came of it too."""
    found = sa.select(Login.expires_at).where(Login.session_id == session_id)
    until = await db.scalar(found.with_for_update(read=True, key_share=True))
    return max(until - now, timedelta()) if until else timedelta()
