"""A growing wait after failed sign-ins, per account and per address; in rows, so that every replica knows it.

Unknown accounts wait like known ones, so a wait tells nobody that a name exists. They share a fixed number of
rows by the hash of their name, so guessing names grows no table.
"""

from __future__ import annotations

import hashlib
import math
from datetime import datetime, timedelta
from typing import NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from himalia_hub.db import prepared
from himalia_hub.db.base import insert_of
from himalia_hub.db.prepared import Prepared, is_postgresql
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


def charge(db: Session, account: str, address: str, *, now: datetime) -> None:
    """Count an attempt on the account before it is looked at, so that many at once cannot slip through.

    TooMany, and nothing counted, while a wait is on. The address is only looked at here: people behind one
    router may all sign in at the same moment.
    """
    _write(db, hold(db, account, address, now=now), now)


def hold(db: Session, account: str, address: str, *, now: datetime) -> Failures:
    """The account's failures so far, which nobody else counts until the transaction ends. TooMany."""
    own, theirs = _locked(db, account, address)
    waits = [
        wait_s(each.times, each.last, free=free, now=now)
        for each, free in ((own, FREE_PER_ACCOUNT), (theirs, FREE_PER_ADDRESS))
        if each.last is not None
    ]
    _refuse("Too many failed sign-ins.", max(waits, default=0))
    return own


def charge_asking(db: Session, address: str, *, now: datetime) -> None:
    """Count that somebody at this address asks for an account. TooMany, and nothing counted, while a wait is on."""
    so_far = _locked(db, f"sign-up:{address}")[0]
    if so_far.last is not None:
        left = wait_s(so_far.times, so_far.last, free=FREE_PER_ADDRESS, now=now)
        _refuse("Too many people have asked for an account from here.", left)
    _write(db, so_far, now)


def _refuse(why: str, left_s: float) -> None:
    if left_s > 0:
        refusal = TooMany(why, retry_after_s=math.ceil(left_s))
        refusal.remedy = f"wait {math.ceil(left_s)} s, then try again"
        raise refusal


def failed(db: Session, address: str, *, now: datetime) -> None:
    """The attempt was wrong: the address is charged as well, and what is long over is swept out."""
    db.execute(sa.delete(FailedLogin).where(FailedLogin.last < now - FORGET_AFTER))
    _write(db, _locked(db, address)[0], now)


def succeeded(db: Session, account: str) -> None:
    """The attempt was right: the account's slate is clean. The address keeps its own."""
    _FORGET.run(db, {"its_key": account})


class Failures(NamedTuple):
    """A row of the table, or that there is none."""

    key: str
    times: int = 0
    last: datetime | None = None


_TABLE = cast("sa.Table", FailedLogin.__table__)
_ROWS = Prepared(
    sa.select(_TABLE.c.key, _TABLE.c.count, _TABLE.c.last).where(
        sa.or_(_TABLE.c.key == sa.bindparam("its_key"), _TABLE.c.key == sa.bindparam("other"))
    )
)
_FORGET = Prepared(sa.delete(_TABLE).where(_TABLE.c.key == sa.bindparam("its_key")))
_FIRST = Prepared(insert_of(FailedLogin), given=("key", "count", "last"))


def _locked(db: Session, key: str, other: str = "") -> list[Failures]:
    """The failures under each of two keys; those of the first one are ours until the transaction ends.

    A row that is only read when absent locks nothing: twelve attempts at once would all find it so. SQLite lets in
    one writer at a time anyway; PostgreSQL keeps a lock by the key's hash.
    """
    if is_postgresql(db):
        prepared.hold(db, "pg_advisory_xact_lock", f"failed_logins {key}")
    rows = {row[0]: Failures(*row) for row in _ROWS.rows(db, {"its_key": key, "other": other})}
    return [rows.get(each, Failures(each)) for each in (key, other)]


def _write(db: Session, so_far: Failures, now: datetime) -> None:
    if so_far.last is None:
        _FIRST.run(db, {"key": so_far.key, "count": 1, "last": now})
        return
    count = 1 if now - so_far.last > FORGET_AFTER else so_far.times + 1
    db.execute(sa.update(FailedLogin).where(FailedLogin.key == so_far.key).values(count=count, last=now))
