"""Limits that a start must pass, and the names servers may have."""

from __future__ import annotations

import random
import re

from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.errors import BadRequest, Conflict, TooMany
from himalia_hub.servers import store
from himalia_hub.servers.models import Server
from himalia_hub.settings import ServersSection
from himalia_hub.users.models import User

RETRY_RANGE_S = (30.0, 60.0)
_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){0,28}[a-z0-9]|[a-z]")


def check_name(name: str, settings: ServersSection) -> None:
    """A named server's name is 1–30 of `a-z 0-9 -`, begins with a letter, has no `--` and no `-` at its end."""
    if not name:
        return
    if not settings.allow_named:
        raise BadRequest("named servers are not enabled", remedy="set servers.allow_named = true")
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"{name[:64]!r} cannot be a server name",
            remedy="1 to 30 of a-z, 0-9 and single dashes, a letter first, no dash at the end",
        )


def needs_name(name: str) -> None:
    """Conflict without one: the server without a name is there already, for everybody."""
    if not name:
        raise Conflict("the server without a name is the default one, and exists", remedy="give a name")


async def check_start(db: AsyncSession, user: User, name: str, settings: ServersSection) -> None:
    """Pass when one more server may start; TooMany says when to come back, BadRequest is a person's own limit."""
    check_name(name, settings)
    if name and settings.named_limit_per_user:
        named = [
            server for server in await store.list_for_user(db, user.id) if server.name and server.name != name
        ]
        if len(named) >= settings.named_limit_per_user:
            raise BadRequest(
                f"{user.name} has {len(named)} named servers, the limit is {settings.named_limit_per_user}",
                remedy="remove one first",
            )
    if not settings.active_limit and not settings.concurrent_start_limit:
        return
    active, starting = await store.count_active(db)
    retry = random.uniform(*RETRY_RANGE_S)  # noqa: S311 -- spreads the herd, keeps no secret
    if settings.active_limit and active >= settings.active_limit:
        raise TooMany(
            f"{active} servers run, the limit is {settings.active_limit}; try again later",
            retry_after_s=retry,
        )
    if settings.concurrent_start_limit and starting >= settings.concurrent_start_limit:
        raise TooMany(f"{starting} servers are starting just now; try again in a moment", retry_after_s=retry)


def must_be_startable(server: Server | None) -> None:
    """BadRequest when it runs already or is on its way down, in JupyterHub's sense."""
    from himalia_hub.servers.view import pending, ready

    if server is None:
        return
    if ready(server):
        raise BadRequest(f"the server {server.name or 'default'!r} is already running")
    if pending(server) in ("stop", "check"):
        raise BadRequest(
            f"the server {server.name or 'default'!r} is pending {pending(server)}; wait for it to end"
        )
