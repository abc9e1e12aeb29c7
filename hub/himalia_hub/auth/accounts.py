"""Checking a name and password, and beginning and ending browser sign-ins: rows only, no HTTP."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import backoff, password
from himalia_hub.db.engine import Database
from himalia_hub.errors import BadRequest, NotAuthenticated
from himalia_hub.secrets import hash_token, mint
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users import store as users
from himalia_hub.users.models import Login, User


class WrongPassword(NotAuthenticated):
    """Name or password is wrong; which of them is not said."""

    code = "wrong-password"

    def __init__(self) -> None:
        super().__init__("Wrong user name or password.")


async def authenticate(database: Database, name: str, given: str, *, address: str) -> User:
    """The person with this name and password. WrongPassword, or TooMany while a back-off is on."""
    try:
        clean = users.normalise(name)
    except BadRequest:
        clean = ""
    from_address = backoff.address_key(address)
    async with database.begin() as db:
        user = await users.by_name(db, clean) if clean else None
        account = backoff.account_key(clean, known=user is not None)
        await backoff.charge(db, account, from_address, now=clock.now())
    # No transaction is open while the hash is worked out: it takes long, and many may be queued.
    stored = user.password_hash if user else None
    verdict = await password.verify(stored, given)
    async with database.begin() as db:
        if user is None or not verdict.right:
            await backoff.failed(db, from_address, now=clock.now())
        else:
            await backoff.succeeded(db, account)
            if verdict.better_hash:
                # Only while the stored one is still the one that was checked: it may just have been changed.
                better = sa.update(User).where(User.id == user.id, User.password_hash == stored)
                await db.execute(better.values(password_hash=verdict.better_hash))
    if user is None or not verdict.right:
        raise WrongPassword
    return user


async def begin_login(
    db: AsyncSession, user: User, *, now: datetime, lasts: timedelta, user_agent: str = ""
) -> tuple[Login, str]:
    """A new browser sign-in and the secret for its cookie. The person's ended ones are swept out."""
    await db.execute(sa.delete(Login).where(Login.user_id == user.id, Login.expires_at <= now))
    secret = mint(32)
    login = Login(
        user_id=user.id,
        session_id=uuid.uuid4().hex,
        hashed=hash_token(secret),
        created=now,
        expires_at=now + lasts,
        last_seen=now,
        user_agent=user_agent[:255],
    )
    db.add(login)
    await db.execute(sa.update(User).where(User.id == user.id).values(last_activity=now))
    await db.flush()
    return login, secret


async def end_login(db: AsyncSession, login: Login) -> None:
    """Sign out: the row goes, and with it every token that was issued through it."""
    await db.execute(sa.delete(ApiToken).where(ApiToken.session_id == login.session_id))
    await db.execute(sa.delete(Login).where(Login.id == login.id))
