"""Tokens and share codes whose hash another program made: valid as they are; tokens ours from their first use."""

from __future__ import annotations

import hashlib
import hmac
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.db.engine import Database
from himalia_hub.importing.models import ImportedShareCode, ImportedToken
from himalia_hub.secrets import hash_token
from himalia_hub.shares.models import ShareCode
from himalia_hub.tokens.models import ApiToken

T = TypeVar("T", ImportedToken, ImportedShareCode)
LONGEST = 64
"""JupyterHub never makes or takes a longer token; hashing what anybody sends costs time."""
MOST_ROUNDS = 100_000


def matches(hashed: str, token: str) -> bool:
    """Whether `algorithm:rounds:salt:digest` is of this token, as JupyterHub computes it; False for what is no such."""
    algorithm, _, rest = hashed.partition(":")
    rounds, _, rest = rest.partition(":")
    salt, _, digest = rest.partition(":")
    if algorithm not in ("sha256", "sha512") or not rounds.isdecimal() or int(rounds) > MOST_ROUNDS:
        return False
    computed = hashlib.new(algorithm, salt.encode())
    computed.update(token.encode(errors="replace") * int(rounds))
    return hmac.compare_digest(computed.hexdigest(), digest)


async def put(db: AsyncSession, token: ApiToken, *, prefix: str, hashed: str) -> None:
    """Keep somebody else's hash for this row of ours, whose own hash is no token's."""
    token.hashed = f"imported {hash_token(hashed)}"
    db.add(token)
    await db.flush()
    db.add(ImportedToken(token_id=token.id, prefix=prefix, hashed=hashed))


async def adopt(database: Database, token: str) -> bool:
    """Make an imported token ours, if this is one; True then. It is looked up as any other from now on.

    True, too, where another request has just done it: a script that begins with several at once is not refused.
    """
    async with database.read() as db:
        mine = await _find(db, ImportedToken, token)
        if mine is None:
            done = sa.select(ImportedToken.token_id).join(ApiToken, ApiToken.id == ImportedToken.token_id)
            return await db.scalar(done.where(ApiToken.hashed == hash_token(token))) is not None
    async with database.begin() as db:
        of_mine = ApiToken.id == mine.token_id
        await db.execute(sa.update(ApiToken).where(of_mine).values(hashed=hash_token(token)))
        known = sa.update(ImportedToken).where(ImportedToken.token_id == mine.token_id)
        await db.execute(known.values(prefix=""))
    return True


async def put_code(db: AsyncSession, code: ShareCode, *, prefix: str, hashed: str) -> None:
    """The same as `put`, of a share code."""
    code.hashed = f"imported {hash_token(hashed)}"
    db.add(code)
    await db.flush()
    db.add(ImportedShareCode(code_id=code.id, prefix=prefix, hashed=hashed))


async def code_of(db: AsyncSession, code: str) -> int | None:
    """The row of an imported share code, when this is one."""
    found = await _find(db, ImportedShareCode, code)
    return None if found is None else found.code_id


async def _find(db: AsyncSession, table: type[T], secret: str) -> T | None:
    if not 0 < len(secret) <= LONGEST:
        return None
    secret = secret.encode(errors="replace").decode()  # no database can look for bytes that are no text
    # The start of the secret is stored beside the hash; only those that share it are worth hashing.
    begins = [secret[:length] for length in range(1, min(len(secret), 16) + 1)]
    found = await db.scalars(sa.select(table).where(table.prefix.in_(begins)))
    return next((row for row in found if matches(row.hashed, secret)), None)
