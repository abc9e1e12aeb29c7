"""The first administrator: a one-time link, printed where the hub was started. Before it nothing is open."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import password, xsrf
from himalia_hub.auth.begin import sign_in
from himalia_hub.auth.door import DOOR
from himalia_hub.auth.forms import small_form
from himalia_hub.errors import BadRequest, Conflict, HimaliaError, NotAuthorized
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import public
from himalia_hub.secrets import hash_token, mint
from himalia_hub.users import store as users
from himalia_hub.users.models import SetupLink, User

log = structlog.get_logger()


class SetupFirst(NotAuthorized):
    """Nobody can sign in yet: the set-up link comes first."""

    code = "setup-first"

    def __init__(self) -> None:
        super().__init__(
            "This hub is not set up yet.",
            remedy="Use the set-up link printed in the terminal where the hub was started.",
        )


class LinkIsOver(NotAuthorized):
    """The set-up link was used, replaced by a newer one, or is not complete."""

    code = "setup-link-over"

    def __init__(self) -> None:
        super().__init__(
            "This set-up link does not work: it was used already, or a newer one was printed.",
            remedy="Sign in with the account that was made, or restart the hub to get a new link.",
        )


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "setup", show_setup), web.post(prefix + "setup", set_up)]


async def needed(db: AsyncSession) -> bool:
    """Whether nobody could sign in."""
    return await db.scalar(sa.select(User.id).where(User.password_hash.is_not(None)).limit(1)) is None


async def create_setup_link(db: AsyncSession, now: datetime) -> str:
    """The secret of a new link; older links stop working."""
    secret = mint()
    await db.execute(sa.delete(SetupLink))
    db.add(SetupLink(hashed=hash_token(secret), created=now))
    await db.flush()
    return secret


_OPEN: web.RequestKey[bool] = web.RequestKey("setup_done")


async def gate_closed(request: web.Request) -> bool:
    """Whether the hub still waits for its first administrator. Asked at most once per request."""
    if not request.app[DOOR].has_local:
        return False  # administrators come in by `auth.methods.NAME.admin_users`
    if _OPEN not in request:
        async with request.app[DB].read() as db:
            request[_OPEN] = not await needed(db)
    return not request[_OPEN]


async def _check_link(request: web.Request, token: str) -> None:
    async with request.app[DB].read() as db:
        row = await db.scalar(sa.select(SetupLink.id).where(SetupLink.hashed == hash_token(token)))
        if row is None or not await needed(db):
            raise LinkIsOver


@public
async def show_setup(request: web.Request) -> web.Response:
    """200 the form for the first administrator; 403 when the link is over."""
    token = request.query.get("token", "")
    await _check_link(request, token)
    return await _form(request, token)


@public(xsrf_by_hand=True)
async def set_up(request: web.Request) -> web.Response:
    """302 home, signed in as the first administrator; 400, 409 the form again; 403 when the link is over."""
    fields = await small_form(request)
    token, name = fields.get("token", ""), fields.get("username", "").strip()
    given = fields.get("password", "")
    await _check_link(request, token)
    try:
        await xsrf.check(request)
        clean = users.normalise(name)
        password.check_new(given, least=request.app[SETTINGS].auth.password_min_length, name=clean)
        if fields.get("password_repeat", "") != given:
            raise BadRequest("the two passwords are not the same")
        hashed = await password.hash_off_loop(given)
        async with request.app[DB].begin() as db:
            user = await use_link(db, token, clean, hashed, now=clock.now())
    except (BadRequest, Conflict, xsrf.XsrfFailed) as error:
        return await _form(request, token, status=error.status, username=name, error=error)
    log.info("setup.done", user=user.name)
    return await sign_in(request, user, request.app[SETTINGS].hub_prefix + "home")


async def use_link(db: AsyncSession, token: str, name: str, hashed: str, *, now: datetime) -> User:
    """The first administrator; every link ends in the same transaction. LinkIsOver for the second to come."""
    taken = await db.execute(sa.delete(SetupLink).where(SetupLink.hashed == hash_token(token)))
    # Deleting the row decides the race: a second transaction waits for the first one and then finds none.
    if taken.rowcount != 1 or not await needed(db):  # type: ignore[attr-defined]
        raise LinkIsOver
    await db.execute(sa.delete(SetupLink))
    return await users.create(db, name, now=now, admin=True, password_hash=hashed)


async def _form(
    request: web.Request,
    token: str,
    *,
    status: int = 200,
    username: str = "",
    error: HimaliaError | None = None,
) -> web.Response:
    """`setup.html` gets `action, token, username, error` (text), `remedy`, `password_min_length`."""
    return await page(
        request,
        "setup.html",
        status=status,
        action=request.app[SETTINGS].hub_prefix + "setup",
        token=token,
        username=username,
        error=str(error) if error else "",
        remedy=error.remedy if error else "",
        password_min_length=request.app[SETTINGS].auth.password_min_length,
    )
