"""A second step after the password of a local account: a code that changes every 30 s (RFC 6238), or a recovery code.

The secret lies encrypted in its row. A code counts once: the row remembers the last time step that was used, and
is changed only forwards, so two who send one code at once are let in once.
"""

from __future__ import annotations

import base64
import hmac
import os
from datetime import datetime

import sqlalchemy as sa
from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.auth import backoff
from himalia_hub.auth.models import RecoveryCode, SecondFactor
from himalia_hub.auth.vault import Vault
from himalia_hub.db.engine import Database
from himalia_hub.errors import BadRequest, NotAuthenticated
from himalia_hub.secrets import hash_token
from himalia_hub.users.models import User

STEP_S = 30
DRIFT = 1
"""Steps that a clock may be off, either way."""
RECOVERY_CODES = 10


class WrongCode(NotAuthenticated):
    """The code of the second step is wrong, used or over."""

    code = "wrong-code"

    def __init__(self) -> None:
        super().__init__("This code is wrong, was used before, or is too old.")


class CodeNeeded(NotAuthenticated):
    """The password was right; the second step is missing."""

    code = "code-needed"

    def __init__(self, user: User) -> None:
        super().__init__("This account asks for a second step.", remedy="send the code as `otp` too")
        self.user = user


def is_on(db: Session, user_id: int) -> bool:
    """Whether this person must give a code."""
    row = db.get(SecondFactor, user_id)
    return row is not None and row.confirmed is not None


async def codes_left(db: AsyncSession, user_id: int) -> int:
    """How many recovery codes are unused."""
    mine = sa.select(sa.func.count()).select_from(RecoveryCode).where(RecoveryCode.user_id == user_id)
    return await db.scalar(mine) or 0


async def check(database: Database, vault: Vault, user_id: int, code: str, *, address: str) -> None:
    """Nothing when the code is right, which uses it up. WrongCode; TooMany while a back-off is on."""
    account, from_address = f"code:{user_id}", backoff.address_key(address)
    async with database.begin() as db:
        await db.run_sync(backoff.charge, account, from_address, now=clock.now())
    async with database.begin() as db:
        right = await _use(db, vault, user_id, code)
        if right:
            await db.run_sync(backoff.succeeded, account)
        else:
            await db.run_sync(backoff.failed, from_address, now=clock.now())
    if not right:
        raise WrongCode


async def _use(db: AsyncSession, vault: Vault, user_id: int, code: str) -> bool:
    clean = "".join(code.split()).replace("-", "").lower()
    if len(clean) == 6 and clean.isascii() and clean.isdigit():
        return await _use_changing_code(db, vault, user_id, clean)
    mine = sa.and_(RecoveryCode.user_id == user_id, RecoveryCode.hashed == hash_token(clean))
    used = await db.execute(sa.delete(RecoveryCode).where(mine))
    return bool(used.rowcount)  # type: ignore[attr-defined]


async def _use_changing_code(db: AsyncSession, vault: Vault, user_id: int, code: str) -> bool:
    row = await db.get(SecondFactor, user_id)
    secret = vault.open(row.secret) if row is not None and row.confirmed is not None else None
    step = step_of(secret, code, now=clock.now()) if isinstance(secret, str) else None
    if step is None:
        return False
    forwards = sa.and_(SecondFactor.user_id == user_id, SecondFactor.last_step < step)
    used = await db.execute(sa.update(SecondFactor).where(forwards).values(last_step=step))
    return bool(used.rowcount)  # type: ignore[attr-defined]


def step_of(secret: str, code: str, *, now: datetime) -> int | None:
    """The time step whose code this is, of those around `now`; None when it is none of theirs."""
    import pyotp

    generator = pyotp.TOTP(secret, interval=STEP_S)
    current = int(now.timestamp()) // STEP_S
    steps = range(current - DRIFT, current + DRIFT + 1)
    fits = [step for step in steps if hmac.compare_digest(generator.generate_otp(step), code)]
    return fits[-1] if fits else None


# ------------------------------------------------------------------ switching on and off


async def begin(db: AsyncSession, vault: Vault, user_id: int) -> str:
    """A secret that waits for its first code. One that waits already is shown again, so a reload changes nothing."""
    import pyotp

    row = await db.get(SecondFactor, user_id)
    if row is not None:
        waiting = vault.open(row.secret) if row.confirmed is None else None
        if isinstance(waiting, str):
            return waiting
        if row.confirmed is not None:
            raise BadRequest("the second step is on already", remedy="turn it off first")
        await db.delete(row)
        await db.flush()
    secret = pyotp.random_base32()
    db.add(SecondFactor(user_id=user_id, secret=vault.lock(secret), last_step=0))
    return secret


async def confirm(db: AsyncSession, vault: Vault, user_id: int, code: str) -> list[str]:
    """Turn it on with a first right code; the recovery codes, shown once. WrongCode."""
    row = await db.get(SecondFactor, user_id, with_for_update=True)
    secret = vault.open(row.secret) if row is not None and row.confirmed is None else None
    step = step_of(secret, "".join(code.split()), now=clock.now()) if isinstance(secret, str) else None
    if row is None or step is None:
        raise WrongCode
    row.confirmed, row.last_step = clock.now(), step
    return await new_recovery_codes(db, user_id)


async def new_recovery_codes(db: AsyncSession, user_id: int) -> list[str]:
    """Fresh recovery codes in place of all older ones. 60 bits each: one hash round is enough with the back-off."""
    await db.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    codes = [_readable_code() for _ in range(RECOVERY_CODES)]
    db.add_all(RecoveryCode(user_id=user_id, hashed=hash_token(code.replace("-", ""))) for code in codes)
    return codes


def _readable_code() -> str:
    text = base64.b32encode(os.urandom(8)).decode().lower()[:12]
    return "-".join((text[:4], text[4:8], text[8:]))


async def turn_off(db: AsyncSession, user_id: int) -> None:
    """No second step any more."""
    await db.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    await db.execute(sa.delete(SecondFactor).where(SecondFactor.user_id == user_id))


def address_for_apps(secret: str, name: str, host: str) -> str:
    """The `otpauth://` address that authenticator apps read from a picture."""
    import pyotp

    return str(pyotp.TOTP(secret, interval=STEP_S).provisioning_uri(name=name, issuer_name=f"Himalia {host}"))


def picture(address: str) -> Markup:
    """The QR code as SVG elements without styles, for a page with a strict policy."""
    import segno

    svg = segno.make(address, error="m").svg_inline(scale=5, border=2, dark="#000", light="#fff")
    return Markup(svg)  # noqa: S704 -- segno's own elements and numbers: the address is drawn, not written
