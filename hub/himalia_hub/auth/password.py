"""Local accounts: argon2id hashes, made and checked in a few threads of their own.

Hashing is meant to be slow. It never runs on the event loop, and no more hashes run at once than there are
threads: 200 sign-ins in one breath queue here and slow nothing else. The queue has an end, so that strangers with
wrong passwords fill no memory and keep nobody waiting who would have given up long before.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from himalia_hub.auth.base import WayDown
from himalia_hub.errors import BadRequest
from himalia_hub.languages import counted

T = TypeVar("T")

MAX_LENGTH = 1024
"""Characters of a password that are looked at; more is refused before any hashing."""

_hasher = argon2.PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)
LONGEST_QUEUE = 500
"""So many may wait for a thread, which is half a minute to a minute; browsers and proxies give up soon after that."""
NICER = 5
"""Than the hub are the threads (on Linux nice(2) is each thread's own): the event loop, which everybody waits for, goes
first. Not much more, or nobody could sign in beside kernels that compute.
"""


def _stand_back() -> None:
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):  # where even that is forbidden it is no reason to let nobody in
        # Counted from the hub's own: what would be nicer than 5 already may not be told to be less so.
        os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + NICER, 19))


_pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "argon2", initializer=_stand_back)
_waiting = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password was right; `better_hash` replaces one made with older parameters."""

    right: bool
    better_hash: str | None = None


def hash_password(password: str) -> str:
    """The stored form. Slow: inside the hub use `hash_off_loop`."""
    return _hasher.hash(password)


_FIRST_GUESSES = """
12345678 123456789 1234567890 0123456789 11111111 00000000 66666666 88888888 87654321 12341234 abcd1234 abc12345
password passwort password1 password123 passw0rd p@ssw0rd qwertyui qwertyuiop qwertzui qwerty12 qwerty123 1q2w3e4r
1qaz2wsx asdfghjk asdfghjkl iloveyou sunshine princess football baseball basketball superman trustno1 welcome1
welcome123 letmein123 administrator admin123 admin1234 changeme changeme123 test1234 computer internet whatever
michelle jennifer starwars jupyter1 jupyterhub jupyterlab notebook himalia1
"""
COMMON = frozenset(_FIRST_GUESSES.split())
"""What guessers try first, as far as it is long enough to be typed here at all."""


def check_new(password: str, *, least: int, name: str = "") -> None:
    """BadRequest when this may not become a password. Long is what counts, not which signs are in it."""
    if password.strip().lower() in COMMON:
        raise BadRequest("this password is among the first that guessers try", remedy="take a longer phrase")
    if name and password.strip().lower() in (name.lower(), name.lower() * 2, name.lower()[::-1]):
        raise BadRequest("the password is the user name", remedy="take a longer phrase")
    if len(password) < least:
        raise BadRequest(
            counted(
                "the password has %(num)s character, %(least)s are needed",
                "the password has %(num)s characters, %(least)s are needed",
                len(password),
                least=least,
            )
        )
    if len(password) > MAX_LENGTH:
        raise BadRequest(f"the password has {len(password)} characters, {MAX_LENGTH} are the most")


async def hash_off_loop(password: str) -> str:
    """The stored form, made in a thread. WayDown when too many wait."""
    return await _in_turn(lambda: hash_password(password))


async def verify(stored: str | None, password: str) -> Verdict:
    """Whether the password fits. With nothing stored it takes as long and says no: time tells no names.

    WayDown when too many wait.
    """
    if len(password) > MAX_LENGTH:
        return Verdict(right=False)
    return await _in_turn(lambda: _verify(stored, password))


async def _in_turn(work: Callable[[], T]) -> T:
    """`work()` in one of the threads, after all who came before."""
    global _waiting
    if _waiting >= LONGEST_QUEUE:
        raise WayDown("Too many people are signing in at this moment.", remedy="Try again in a minute.")
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_pool, work)
    finally:
        _waiting -= 1


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
