"""Signing in and out with a browser."""

from __future__ import annotations

import structlog
from aiohttp import web

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import accounts, cookies, origin, setup, xsrf
from himalia_hub.auth.admit import NotAdmitted
from himalia_hub.auth.base import WayDown
from himalia_hub.auth.door import DOOR, WrongPassword, sign_in_by_password
from himalia_hub.auth.forms import small_form
from himalia_hub.auth.next_url import safe_next
from himalia_hub.errors import HimaliaError, TooMany
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import public
from himalia_hub.users.models import User

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "login", show_login),
        web.post(prefix + "login", login),
        web.get(prefix + "logout", logout, allow_head=False),
    ]


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


@public
async def show_login(request: web.Request) -> web.Response:
    """200 the form; 302 onwards for who is signed in already."""
    if request.get(IDENTITY) is not None:
        return web.Response(
            status=302, headers={"Location": destination(request), "Cache-Control": "no-store"}
        )
    return await login_form(request)


@public(xsrf_by_hand=True)
async def login(request: web.Request) -> web.Response:
    """302 onwards with cookies; 403 the form again with what was wrong, 429 while a back-off is on."""
    form = await small_form(request)
    name, given = form.get("username", "").strip(), form.get("password", "")
    try:
        await xsrf.check(request)
    except xsrf.XsrfFailed:
        text = "This form was open for too long or came from another page. Please sign in again."
        return await login_form(request, status=403, username=name[:255], error=text)
    method, address = form.get("method", ""), origin.address(request)
    try:
        user = await sign_in_by_password(
            request.app[DB], request.app[DOOR], name, given, method=method, address=address
        )
    except (WrongPassword, NotAdmitted, TooMany, WayDown) as error:
        log.info("login.refused", reason=error.code, method=method, address=address)
        return await login_form(request, status=error.status, username=name[:255], error=error, method=method)
    return await sign_in(request, user, destination(request))


async def sign_in(request: web.Request, user: User, location: str) -> web.Response:
    """A new sign-in for this browser, which ends its old one, and a redirect."""
    before = request.get(IDENTITY)
    async with request.app[DB].begin() as db:
        if before is not None and before.login is not None:
            await accounts.end_login(db, before.login)
        row, secret = await accounts.begin_login(
            db,
            user,
            now=clock.now(),
            lasts=cookies.max_age(request),
            user_agent=request.headers.get("User-Agent", ""),
        )
    response = web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})
    cookies.set_login(request, response, secret, row.session_id)
    response.del_cookie(cookies.ANONYMOUS, path=request.app[SETTINGS].hub_prefix)
    tell(request, actor=user.name, target_user=user.name)
    log.info("login.done", user=user.name, address=origin.address(request))
    return response


async def login_form(
    request: web.Request,
    *,
    status: int = 200,
    username: str = "",
    error: HimaliaError | str = "",
    method: str = "",
) -> web.Response:
    """The sign-in page. `login.html` gets `action`, `ways` (name, title), `method` (the one to show first),
    `username`, `error` (text), `remedy`, `wait_s`, `setup_needed`.
    """
    door = request.app[DOOR]
    known = [each.name for each in door.asking]
    query = request.rel_url.raw_query_string
    action = request.app[SETTINGS].hub_prefix + "login" + (f"?{query}" if query else "")
    wait = error.retry_after_s if isinstance(error, TooMany) else 0
    response = await page(
        request,
        "login.html",
        status=status,
        action=action,
        ways=door.asking,
        method=method if method in known else next(iter(known), ""),
        username=username,
        error=str(error),
        remedy="" if isinstance(error, (str, TooMany)) else error.remedy,
        wait_s=int(wait),
        setup_needed=await setup.gate_closed(request),
    )
    if wait:
        response.headers["Retry-After"] = str(int(wait))
    return response


@public
async def logout(request: web.Request) -> web.Response:
    """302 to the sign-in page. This browser's sign-in ends, and every token that was issued through it."""
    identity = request.get(IDENTITY)
    if identity is not None and identity.login is not None:
        async with request.app[DB].begin() as db:
            await accounts.end_login(db, identity.login)
        log.info("login.ended", user=identity.name)
    location = request.app[SETTINGS].hub_prefix + "login"
    response = web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})
    cookies.clear(request, response)
    return response
