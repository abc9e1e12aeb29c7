"""A link by which somebody chooses a password: an administrator makes it, and hands it over by whatever way there is.

Nothing is kept for it. It holds the account, its end and a print of the password that was good when it was made,
signed: so it works once, and not at all after any other change of the password, or for the next holder of the account's
number.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import sqlalchemy as sa
import structlog
from aiohttp import web

from himalia_hub.audit.record import tell
from himalia_hub.auth import accounts, begin, origin, out, second, tickets, xsrf
from himalia_hub.auth import password as passwords
from himalia_hub.auth.door import DOOR
from himalia_hub.auth.forms import small_form
from himalia_hub.errors import BadRequest, HimaliaError, NotAuthorized
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import public
from himalia_hub.rbac.identity import Identity
from himalia_hub.secrets import hash_token
from himalia_hub.users.models import Login, User

LASTS = timedelta(days=7)
PURPOSE = "first-password"

log = structlog.get_logger()


class PasswordLinkOver(NotAuthorized):
    """The link was used, is too old or not complete, or the password was changed since."""

    code = "password-link-over"

    def __init__(self) -> None:
        super().__init__(
            "This link does not work: it was used already, is too old, or the password was changed since.",
            remedy="Sign in with your password, or ask an administrator for a new link.",
        )


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "password", show), web.post(prefix + "password", choose)]


def may_make(request: web.Request, identity: Identity, user: User) -> bool:
    """Whoever has the link is that person: only who may do everything may make one, and none for oneself."""
    return (
        identity.is_whole_admin
        and request.app[DOOR].has_local
        and not user.guest
        and user.id != identity.user_id
    )


def link_for(request: web.Request, user: User) -> str:
    """The whole address, as the administrator who asks reaches the hub."""
    ticket = tickets.give(request.app, PURPOSE, user, _print_of, lasts=LASTS)
    settings = request.app[SETTINGS]
    here = settings.public_url.rstrip("/") or f"{origin.scheme(request)}://{request.host}"
    return f"{here}{settings.hub_prefix}password?ticket={quote(ticket)}"


@public
async def show(request: web.Request) -> web.Response:
    """200 the form for a new password; 403 when the link is over."""
    ticket = request.query.get("ticket", "")
    return await _form(request, await _of_ticket(request, ticket), ticket)


@public(xsrf_by_hand=True)
async def choose(request: web.Request) -> web.Response:
    """302 home, signed in, with every older sign-in ended, or to the sign-in page where a second step is on.

    400 the form again; 403 when the link is over.
    """
    fields = await small_form(request)
    ticket, given = fields.get("ticket", ""), fields.get("password", "")
    user = await _of_ticket(request, ticket)
    try:
        await xsrf.check(request)
        passwords.check_new(given, least=request.app[SETTINGS].auth.password_min_length, name=user.name)
        if fields.get("password_repeat", "") != given:
            raise BadRequest("the two passwords are not the same")
    except (BadRequest, xsrf.XsrfFailed) as error:
        return await _form(request, user, ticket, error=error)
    hashed = await passwords.hash_off_loop(given)
    async with request.app[DB].begin() as db:
        # Only while the password is the one the link was made for: of two who use it at once, one comes too late.
        same = User.password_hash.is_not_distinct_from(user.password_hash)
        mine = sa.and_(User.id == user.id, same, User.suspended.is_(None))
        changed = await db.execute(sa.update(User).where(mine).values(password_hash=hashed))
        if not changed.rowcount:  # type: ignore[attr-defined]
            raise PasswordLinkOver
        logins = list(await db.scalars(sa.select(Login).where(Login.user_id == user.id)))
        ended = [await db.run_sync(accounts.end_login, login) for login in logins]
        gone = out.note(db, ended)
        asks_for_code = await db.run_sync(second.is_on, user.id)
    await out.cut(request.app, gone)
    log.info("password.chosen", user=user.name, sign_ins_ended=len(ended))
    tell(request, actor=user.name, target_user=user.name, change={"after": {"password": "changed"}})
    prefix = request.app[SETTINGS].hub_prefix
    if asks_for_code:
        return redirect(prefix + "login")
    return await begin.sign_in(request, user, prefix + "home")


async def _of_ticket(request: web.Request, ticket: str) -> User:
    user = await tickets.bearer(request.app, PURPOSE, ticket, _print_of)
    if user is None or user.suspended is not None or not request.app[DOOR].has_local:
        raise PasswordLinkOver
    return user


def _print_of(user: User) -> str:
    # SQLite gives the number of the last account, once that is deleted, to the next one: its moment tells them apart.
    return hash_token(f"{user.created.timestamp()} {user.password_hash or ''}")[:16]


async def _form(
    request: web.Request, user: User, ticket: str, *, error: HimaliaError | None = None
) -> web.Response:
    """`choose_password.html` gets `action, ticket, name, error` (text), `remedy`, `password_min_length`."""
    settings = request.app[SETTINGS]
    return await page(
        request,
        "choose_password.html",
        status=error.status if error else 200,
        action=settings.hub_prefix + "password",
        ticket=ticket,
        name=user.name,
        error=str(error) if error else "",
        remedy=error.remedy if error else "",
        password_min_length=settings.auth.password_min_length,
    )
