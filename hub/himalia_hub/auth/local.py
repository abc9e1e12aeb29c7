"""The hub's own accounts as a way to sign in."""

from __future__ import annotations

import sqlalchemy as sa
from pydantic import BaseModel

from himalia_hub.auth import password as passwords
from himalia_hub.auth.base import Context, PasswordWay, Person, Traits
from himalia_hub.errors import BadRequest
from himalia_hub.users import store as users
from himalia_hub.users.models import User


class LocalAccounts:
    """Names and argon2 hashes in the hub's database."""

    traits = Traits()

    class Settings(BaseModel, extra="forbid", frozen=True):
        """[auth.methods.NAME] with `kind = "local"` — the hub's own accounts. There is nothing to set."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._db = context.db
        self.realm = "local"

    async def check(self, name: str, password: str) -> Person | None:
        """The account with this name, if the password is its own."""
        try:
            clean = users.normalise(name)
        except BadRequest:
            clean = ""
        async with self._db.read() as db:
            user = await users.by_name(db, clean) if clean else None
        # No transaction is open while the hash is worked out: it takes long, and many may be queued.
        stored = user.password_hash if user else None
        verdict = await passwords.verify(stored, password)
        if user is None or not verdict.right:
            return None
        if verdict.better_hash:
            # Only while the stored one is still the one that was checked: it may just have been changed.
            better = sa.update(User).where(User.id == user.id, User.password_hash == stored)
            async with self._db.begin() as db:
                done = await db.execute(better.values(password_hash=verdict.better_hash))
            if not done.rowcount:  # type: ignore[attr-defined]
                return await self.check(name, password)
            stored = verdict.better_hash
        return Person(subject=str(user.id), name=user.name, account=user.id, hashed=stored)

    async def close(self) -> None:
        """Nothing is held."""


_fits: type[PasswordWay] = LocalAccounts
