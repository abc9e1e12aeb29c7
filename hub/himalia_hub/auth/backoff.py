"""A growing wait after failed sign-ins, per account and per address; in rows, so that every replica knows it.

Unknown accounts wait like known ones, so a wait tells nobody that a name exists. They share a fixed number of
rows by the hash of their name, so guessing names grows no table.
"""

from __future__ import annotations

import hashlib
import math
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.errors import TooMany
from himalia_hub.users.models import FailedLogin

FREE_PER_ACCOUNT = 5
FREE_PER_ADDRESS = 20
"""A class of pupils behind one router mistypes more often than one person."""

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 300.0
FORGET_AFTER = timedelta(hours=1)
BUCKETS = 4096


def wait_s(count: int, last: datetime, *, free: int, now: datetime) -> float:
    """Seconds until the next attempt is looked at; 0 when it is now. Pure."""
    if count < free or now - last > FORGET_AFTER:
        return 0.0
    wait = min(FIRST_WAIT_S * float(2 ** min(count - free, 20)), LONGEST_WAIT_S)
    return max(wait - (now - last).total_seconds(), 0.0)


def account_key(name: str, *, known: bool) -> str:
    """The row of an account; unknown names share some."""
    if known:
        return f"user:{name}"
    return f"unknown:{int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % BUCKETS}"


def address_key(address: str) -> str:
    """The row of a network address."""
    return f"ip:{address}"


async def charge(db: AsyncSession, account: str, address: str, *, now: datetime) -> None:
    """Count an attempt on the account before it is looked at, so that many at once cannot slip through.

    TooMany, and nothing counted, while a wait is on. The address is only looked at here: people behind one
    router may all sign in at the same moment.
    """
    own = await _locked(db, account, now=now)
    theirs = await db.get(FailedLogin, address)
    waits = [wait_s(own.count, own.last, free=FREE_PER_ACCOUNT, now=now)]
    if theirs is not None:
        waits.append(wait_s(theirs.count, theirs.last, free=FREE_PER_ADDRESS, now=now))
    left = max(waits)
    if left > 0:
        refusal = TooMany("Too many failed sign-ins.", retry_after_s=math.ceil(left))
        refusal.remedy = f"wait {math.ceil(left)} s, then try again"
        raise refusal
    _add_one(own, now)


async def failed(db: AsyncSession, address: str, *, now: datetime) -> None:
    """The attempt was wrong: the address is charged as well, and what is long over is swept out."""
    await db.execute(sa.delete(FailedLogin).where(FailedLogin.last < now - FORGET_AFTER))
    await _count(db, address, now=now)


async def succeeded(db: AsyncSession, account: str) -> None:
    """The attempt was right: the account's slate is clean. The address keeps its own."""
    await db.execute(sa.delete(FailedLogin).where(FailedLogin.key == account))


async def _count(db: AsyncSession, key: str, *, now: datetime) -> None:
    _add_one(await _locked(db, key, now=now), now)


def _add_one(row: FailedLogin, now: datetime) -> None:
    row.count = 1 if now - row.last > FORGET_AFTER else row.count + 1
    row.last = now


async def _locked(db: AsyncSession, key: str, *, now: datetime) -> FailedLogin:
    """The row of this key, made when there is none, and ours until the transaction ends.

    A row that is only read when absent locks nothing: twelve attempts at once would all find it so.
    """
    row = await db.get(FailedLogin, key, with_for_update=True)
    if row is not None:
        return row
    try:
        async with db.begin_nested():
            row = FailedLogin(key=key, count=0, last=now)
            db.add(row)
        return row
    except sa.exc.IntegrityError:  # another transaction was first; it has ended by now
        return await db.get_one(FailedLogin, key, with_for_update=True)
