"""Who may call a handler, written on the line above it.

The marks only set an attribute: the access middleware reads it and refuses what carries none,
and a test walks the route table. They live apart so that a feature can import them without the login code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])

ACCESS = "__himalia_access__"
AUTHENTICATED = "authenticated"
PUBLIC = "public"


def authenticated(handler: H) -> H:
    """Only for the person this server belongs to, or whoever the hub lets in."""
    setattr(handler, ACCESS, AUTHENTICATED)
    return handler


def public(handler: H) -> H:
    """For anyone who reaches the socket: answers nothing private, changes nothing."""
    setattr(handler, ACCESS, PUBLIC)
    return handler


def access_of(handler: object) -> str | None:
    """The mark of a handler, None when it has none."""
    mark = getattr(handler, ACCESS, None)
    return mark if isinstance(mark, str) else None
