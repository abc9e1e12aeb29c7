"""Whether and how a person can sign in: put out and let in again, a lost second step, a link for a password."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.audit.record import tell
from himalia_hub.auth import first_password, second, suspend
from himalia_hub.auth.door import DOOR
from himalia_hub.errors import BadRequest, NotAuthorized
from himalia_hub.rbac.identity import Identity
from himalia_hub.users.models import User

DOES = {"suspend": suspend.put_out, "lift": suspend.let_in, "second-step": suspend.forget_second_step}


async def do(request: web.Request, identity: Identity, user: User, does: str) -> str:
    """Do one of these things; the link, where that was asked for, else nothing. BadRequest, NotAuthorized."""
    if does == "link":
        if not first_password.may_make(request, identity, user):
            raise NotAuthorized(
                "only an administrator, with all rights, can make this link, and not for themselves"
            )
        tell(request, change={"after": {"password_link": "made"}})
        return first_password.link_for(request, user)
    if does not in DOES:
        raise BadRequest(f"{does[:30]!r} cannot be done to a person")
    await DOES[does](request, user.name)
    return ""


async def shown(request: web.Request, db: AsyncSession, identity: Identity, user: User) -> dict[str, Any]:
    """What the page of a person says of it."""
    return {
        "may_put_out": user.id != identity.user_id,
        "may_link": first_password.may_make(request, identity, user),
        "has_local": request.app[DOOR].has_local,
        "second_step": await db.run_sync(second.is_on, user.id),
        "link_days": first_password.LASTS.days,
    }
