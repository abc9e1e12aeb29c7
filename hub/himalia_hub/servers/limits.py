"""The names servers may have, how many named ones, and which can be started."""

from __future__ import annotations

import re
import unicodedata

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.errors import BadRequest, Conflict
from himalia_hub.languages import counted
from himalia_hub.servers import store
from himalia_hub.servers.models import Server
from himalia_hub.servers.settings import ServersSection
from himalia_hub.users.models import User

_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?!-)){0,28}[a-z0-9]|[a-z]")


def check_name(name: str, settings: ServersSection, *, is_there: bool = False) -> None:
    """A named server's name is 1–30 of `a-z 0-9 -`, begins with a letter, has no `--` and no `-` at its end. One that
    `is_there` came from a JupyterHub before 6, and goes on under whatever name it has.
    """
    if not name:
        return
    if not settings.allow_named:
        raise BadRequest("named servers are not enabled", remedy="set servers.allow_named = true")
    if not is_there and not _NAME.fullmatch(name):
        raise BadRequest(
            f"{name[:64]!r} cannot be a server name",
            remedy="1 to 30 of a-z, 0-9 and single dashes, a letter first, no dash at the end",
        )


def checked_display_name(name: object) -> str:
    """What a server is called on pages, in NFC: two names that look the same are the same. Empty: as its name."""
    if isinstance(name, str):
        name = unicodedata.normalize("NFC", name)
        if len(name) <= 255 and name.isprintable() and "  " not in name and name == name.strip():
            return name
    raise BadRequest(
        "display_name must be at most 255 printable characters", remedy="single spaces, and inside of it only"
    )


def needs_name(name: str) -> None:
    """Conflict without one: the server without a name is there already, for everybody."""
    if not name:
        raise Conflict("the server without a name is the default one, and exists", remedy="give a name")


async def check_named(
    db: AsyncSession,
    user: User,
    name: str,
    settings: ServersSection,
    *,
    instead_of: str = "",
    is_there: bool = False,
) -> None:
    """BadRequest when the name cannot be one, or this person has as many named servers as they may, beside the one that
    it is `instead_of`.
    """
    check_name(name, settings, is_there=is_there)
    if name and settings.named_limit_per_user:
        # Of two that this person makes at once, the second is counted with the first.
        await db.execute(sa.select(User.id).where(User.id == user.id).with_for_update(key_share=True))
        apart = {"", name, instead_of}
        named = [server for server in await store.list_for_user(db, user.id) if server.name not in apart]
        if len(named) >= settings.named_limit_per_user:
            raise BadRequest(
                counted(
                    "%(user)s has %(num)s named server, the limit is %(limit)s",
                    "%(user)s has %(num)s named servers, the limit is %(limit)s",
                    len(named),
                    user=user.name,
                    limit=settings.named_limit_per_user,
                ),
                remedy="remove one first",
            )


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
