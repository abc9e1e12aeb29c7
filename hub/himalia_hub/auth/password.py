"""Local accounts: argon2id hashes, made and checked in a few threads of their own.

Hashing is meant to be slow. It never runs on the event loop, and no more hashes run at once than there are
threads: 200 sign-ins in one breath queue here and slow nothing else.
"""

from __future__ import annotations

import asyncio
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from himalia_hub.errors import BadRequest

MAX_LENGTH = 1024
"""Characters of a password that are looked at; more is refused before any hashing."""

_hasher = argon2.PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)
_pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="argon2")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password was right; `better_hash` replaces one made with older parameters."""

    right: bool
    better_hash: str | None = None


def hash_password(password: str) -> str:
    """The stored form. Slow: inside the hub use `hash_off_loop`."""
    return _hasher.hash(password)


def check_new(password: str, *, least: int) -> None:
    """BadRequest when this may not become a password."""
    if len(password) < least:
        raise BadRequest(f"the password has {len(password)} characters, {least} are needed")
    if len(password) > MAX_LENGTH:
        raise BadRequest(f"the password has {len(password)} characters, {MAX_LENGTH} are the most")


async def hash_off_loop(password: str) -> str:
    """The stored form, made in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_pool, hash_password, password)


async def verify(stored: str | None, password: str) -> Verdict:
    """Whether the password fits. With nothing stored it takes as long and says no: time tells no names."""
    if len(password) > MAX_LENGTH:
        return Verdict(right=False)
    return await asyncio.get_running_loop().run_in_executor(_pool, _verify, stored, password)


@functools.cache
def _dummy() -> str:
    return hash_password("nobody's password")


def _verify(stored: str | None, password: str) -> Verdict:
    try:
        _hasher.verify(stored or _dummy(), password)
    except (VerificationError, InvalidHashError):
        return Verdict(right=False)
    if stored is None:
        return Verdict(right=False)
    return Verdict(
        right=True, better_hash=hash_password(password) if _hasher.check_needs_rehash(stored) else None
    )
