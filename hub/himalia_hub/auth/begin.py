"""The end of every way to sign in: a new browser sign-in, its cookies, and where to go next."""

from __future__ import annotations

import sqlalchemy as sa
import structlog
from aiohttp import web

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import accounts, cookies, origin, out
from himalia_hub.auth.admit import NotAdmitted
from himalia_hub.auth.next_url import safe_next
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.users.models import User

log = structlog.get_logger()


def destination(request: web.Request) -> str:
    """Where a signed-in visitor goes: the `next` of the address when it is ours, else home."""
    settings = request.app[SETTINGS]
    prefix = settings.hub_prefix
    return safe_next(
        request.query.get("next"),
        own_hosts=origin.own_hosts(request),
        base_url=settings.base_url,
        default=prefix + "home",
        never=(prefix + "login", prefix + "logout", prefix + "setup"),
    )


async def sign_in(request: web.Request, user: User, location: str) -> web.Response:
    """A new sign-in for this browser, which ends its old one, and a redirect."""
    before = request.get(IDENTITY)
    async with request.app[DB].begin() as db:
        if await db.scalar(sa.select(User.suspended).where(User.id == user.id)) is not None:
            raise NotAdmitted("This account is suspended.", remedy="ask an administrator")
        if before is not None and before.login is not None:
            await accounts.end_login(db, before.login)
        row, secret = await accounts.begin_login(
            db,
            user,
            now=clock.now(),
            lasts=cookies.max_age(request),
            user_agent=request.headers.get("User-Agent", ""),
            address=origin.address(request),
        )
    if before is not None and before.login is not None:
        await out.cut(request, [before.login.session_id])
    response = web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})
    cookies.set_login(request, response, secret, row.session_id)
    response.del_cookie(cookies.ANONYMOUS, path=request.app[SETTINGS].hub_prefix)
    tell(request, actor=user.name, target_user=user.name)
    log.info("login.done", user=user.name, address=origin.address(request))
    return response
