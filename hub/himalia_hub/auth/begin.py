"""The end of every way to sign in: a new browser sign-in, its cookies, and where to go next."""

from __future__ import annotations

import structlog
from aiohttp import web
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.audit import record
from himalia_hub.auth import accounts, cookies, origin, out, xsrf
from himalia_hub.auth.admit import NotAdmitted
from himalia_hub.auth.next_url import safe_next
from himalia_hub.db.prepared import is_postgresql
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.replicas.models import CutRow
from himalia_hub.users.models import User

REDIRECT = 302

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
    beginning = Beginning(request)
    await request.app[DB].write(lambda db: beginning.rows(db, user))
    return await beginning.answer(user, location)


class Beginning:
    """The same in two halves: what is written, in whatever transaction, and what is answered once that is committed."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        before = request.get(IDENTITY)
        self._before = before.login if before is not None else None
        self._secret = self._session_id = ""
        self._ended: CutRow | None = None

    def rows(self, db: Session, user: User) -> None:
        """The new sign-in, its line in the audit log, and the end of the old one. NotAdmitted."""
        request = self._request
        user = user if user in db else db.get_one(User, user.id)
        if is_postgresql(db):
            # Another hub may suspend them at this moment: it finds this sign-in, and ends it, or this one finds that.
            db.refresh(user, with_for_update={"key_share": True})
        if user.suspended is not None:
            raise NotAdmitted("This account is suspended.", remedy="ask an administrator")
        if self._before is not None:
            self._ended = out.note(db, [accounts.end_login(db, self._before)])
        self._session_id, self._secret = accounts.begin_login(
            db,
            user,
            now=clock.now(),
            lasts=cookies.max_age(request),
            user_agent=origin.user_agent(request),
            address=origin.address(request),
        )
        record.add(db, request, REDIRECT, actor=user.name, target_user=user.name)

    async def answer(self, user: User, location: str) -> web.Response:
        """The redirect with the cookies."""
        request = self._request
        record.added(request)
        await out.cut(request.app, self._ended)
        if user.has_lost:  # what it let them into is open still in their other browsers
            await out.cut_noted(request.app)
        headers = {"Location": location, "Cache-Control": "no-store"}
        response = web.Response(status=REDIRECT, headers=headers)
        cookies.set_login(request, response, self._secret, self._session_id)
        xsrf.put_token(request, response, self._session_id)
        response.del_cookie(cookies.ANONYMOUS, path=request.app[SETTINGS].hub_prefix)
        log.info("login.done", user=user.name, address=origin.address(request))
        return response
