"""The made-up people in the database: made before the test, gone after it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.auth import password as passwords
from himalia_hub.db.engine import Database
from himalia_hub.scaletest.visitor import Place, administrator
from himalia_hub.tokens import store as tokens
from himalia_hub.users.models import User

TOKEN_LASTS = timedelta(hours=6)
GONE_S = 120.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Names of people who all have the same password, which nobody else knows."""

    names: tuple[str, ...]
    password: str


@asynccontextmanager
async def crowd(database: Database, place: Place, count: int) -> AsyncIterator[Crowd]:
    """Make them; at the end stop their servers and delete them, whatever happened."""
    run, password = secrets.token_hex(3), secrets.token_urlsafe(24)
    hashed = await passwords.hash_off_loop(password)
    names = tuple(f"scaletest-{run}-{number:04d}" for number in range(1, count + 1))
    boss = f"scaletest-{run}-boss"
    async with database.begin() as db:
        db.add_all(User(name=name, password_hash=hashed, created=clock.now()) for name in names)
        owner = User(name=boss, admin=True, created=clock.now())
        db.add(owner)
        await db.flush()
        _row, token = await tokens.issue(
            db,
            owner.id,
            now=clock.now(),
            scopes=["inherit"],
            note="himalia scaletest",
            expires_in=TOKEN_LASTS,
        )
    try:
        yield Crowd(names, password)
    finally:
        await asyncio.shield(_clear_away(database, place, token, names, boss))


async def _clear_away(
    database: Database, place: Place, token: str, names: tuple[str, ...], boss: str
) -> None:
    """Over the API, which stops servers first; then the administrator's own row."""
    async with administrator(token) as session:
        few = asyncio.Semaphore(16)

        async def delete(name: str) -> None:
            url = f"{place.origin}{place.hub_prefix}api/users/{name}"
            async with few, asyncio.timeout(GONE_S):
                while True:
                    async with session.delete(url) as answer:
                        if answer.status in (204, 404):
                            return
                    await asyncio.sleep(1)

        await asyncio.gather(*(delete(name) for name in names), return_exceptions=True)
    async with database.begin() as db:
        await db.execute(sa.delete(User).where(User.name == boss))
