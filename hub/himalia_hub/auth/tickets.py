"""A signed word that its bearer is one account: good for a while, and while what it holds a print of stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from aiohttp import web

from himalia_hub import clock
from himalia_hub.keys import DB, SECRETS
from himalia_hub.users.models import User

LONGEST = 512
"""Characters; what is longer is not even looked at."""
PrintOf = Callable[[User], str]


def give(app: web.Application, purpose: str, user: User, print_of: PrintOf, *, lasts: timedelta) -> str:
    """A ticket for this account and purpose. `print_of` is a short hash of what must not change."""
    expires = int((clock.now() + lasts).timestamp())
    return app[SECRETS].sign(purpose, f"{user.id}:{expires}:{print_of(user)}")


async def bearer(app: web.Application, purpose: str, ticket: str, print_of: PrintOf) -> User | None:
    """The account as it is now; None when the ticket is not ours, is over, or its print is another by now."""
    value = app[SECRETS].unsign(purpose, ticket) if len(ticket) < LONGEST else None
    number, _, rest = (value or "").partition(":")
    expires, _, fingerprint = rest.partition(":")
    if value is None or int(expires) < clock.now().timestamp():
        return None
    async with app[DB].read() as db:
        user = await db.get(User, int(number))
    return user if user is not None and print_of(user) == fingerprint else None
