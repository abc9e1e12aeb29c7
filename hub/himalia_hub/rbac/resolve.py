"""Who asks: from the token or cookie of a request to its Identity."""

from __future__ import annotations

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import cookies
from himalia_hub.importing import tokens as imported
from himalia_hub.keys import DB, MEMO, SETTINGS
from himalia_hub.rbac.identity import Identity, from_login, from_token
from himalia_hub.secrets import hash_token


def bearer(request: web.Request) -> str | None:
    """The token of the Authorization header, or None. The scheme's case does not matter."""
    scheme, _, value = request.headers.get("Authorization", "").strip().partition(" ")
    return value.strip() or None if scheme.lower() in ("token", "bearer") else None


def _kept_as(secret: str | None) -> str | None:
    """Secrets do not lie about in memory."""
    return None if secret is None else hash_token(secret)


async def resolve(request: web.Request, *, tokens_too: bool) -> Identity | None:
    """Who asks. A header token wins; one that is unknown falls back to the cookie, as in JupyterHub."""
    token = bearer(request) if tokens_too else None
    cookie = cookies.login_secret(request)
    if token is None and cookie is None:
        return None
    return await _found(request, token, cookie)


async def of_token(request: web.Request, secret: str) -> Identity | None:
    """Whose token this is; None when it is nobody's, or no longer."""
    return await _found(request, secret, None)


async def _found(request: web.Request, token: str | None, cookie: str | None) -> Identity | None:
    now, rules = clock.now(), request.app[SETTINGS].rules

    async def read(db: AsyncSession) -> Identity | None:
        found = await from_token(db, token, rules, now=now) if token else None
        if found is None and cookie is not None:
            found = await from_login(db, cookie, rules, now=now)
        return found

    async def look() -> Identity | None:
        return await request.app[DB].read_in_one(read)

    found = await request.app[MEMO].get(("identity", _kept_as(token), _kept_as(cookie)), look)
    if found is not None and found.ends is not None and found.ends <= now:
        found = await look()
    if found is None and token is not None and await imported.adopt(request.app[DB], token):
        async with request.app[DB].read() as db:
            return await from_token(db, token, rules, now=now)
    return found
