"""Signing in and out with a browser."""

from __future__ import annotations

from typing import Any

import structlog
from aiohttp import web

from himalia_hub.audit.record import tell
from himalia_hub.auth import accounts, begin, cookies, origin, out, second, second_step, setup, xsrf
from himalia_hub.auth.admit import NotAdmitted
from himalia_hub.auth.base import WayDown
from himalia_hub.auth.door import DOOR, WrongPassword, sign_in_by_password
from himalia_hub.auth.forms import small_form
from himalia_hub.errors import RETRY_AFTER_S, HimaliaError, TooMany
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.pages.kept import page_for_strangers
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import public

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "login", show_login),
        web.post(prefix + "login", login),
        web.get(prefix + "logout", logout, allow_head=False),
        *second_step.routes(prefix),
    ]


@public
async def show_login(request: web.Request) -> web.Response:
    """200 the form; 302 onwards for who is signed in already. The guest of a session may become somebody."""
    identity = request.get(IDENTITY)
    if identity is not None and "guest" not in identity.roles:
        return web.Response(
            status=302, headers={"Location": begin.destination(request), "Cache-Control": "no-store"}
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
    beginning = begin.Beginning(request)
    try:
        user = await sign_in_by_password(
            request.app[DB],
            request.app[DOOR],
            name,
            given,
            method=method,
            address=address,
            then=beginning.rows,
        )
    except second.CodeNeeded as needed:
        if form.get("otp"):  # JupyterHub's clients send it along
            return await second_step.finish(request, needed.user, form["otp"], begin.destination(request))
        return await second_step.ask(request, needed.user)
    except (WrongPassword, NotAdmitted, TooMany, WayDown) as error:
        log.info("login.refused", reason=error.code, method=method, address=address)
        return await login_form(request, status=error.status, username=name[:255], error=error, method=method)
    return await beginning.answer(user, begin.destination(request))


async def login_form(
    request: web.Request,
    *,
    status: int = 200,
    username: str = "",
    error: HimaliaError | str = "",
    method: str = "",
) -> web.Response:
    """The sign-in page. `login.html` gets `action`, `ways` and `buttons` (name, title), `query`,
    `method` (the one to show first), `username`, `error` (text), `remedy`, `wait_s`, `setup_needed`, `may_ask`.
    """
    door = request.app[DOOR]
    known = [each.name for each in door.asking]
    query = request.rel_url.raw_query_string
    action = request.app[SETTINGS].hub_prefix + "login" + (f"?{query}" if query else "")
    wait = error.retry_after_s if isinstance(error, TooMany) else 0
    setup_needed = await setup.gate_closed(request)
    context: dict[str, Any] = {
        "action": action,
        "ways": door.asking,
        "buttons": door.leading_away,
        "query": query,
        "method": method if method in known else next(iter(known), ""),
        "username": username,
        "error": str(error),
        "remedy": "" if isinstance(error, (str, TooMany)) else error.remedy,
        "wait_s": int(wait),
        "setup_needed": setup_needed,
        "may_ask": door.has_local and request.app[SETTINGS].auth.sign_up,
    }
    if status == 200:  # nothing was sent yet
        ways, buttons = (
            tuple((each.name, each.title) for each in some) for some in (door.asking, door.leading_away)
        )
        seen_by = ways, buttons, setup_needed, context["may_ask"]
        return await page_for_strangers(request, "login.html", seen_by, context)
    response = await page(request, "login.html", status=status, **context)
    if wait or status == 503:
        response.headers["Retry-After"] = str(int(wait) or RETRY_AFTER_S)
    return response


@public
async def logout(request: web.Request) -> web.Response:
    """302 to the sign-in page. This browser's sign-in ends, and every token that was issued through it."""
    identity = request.get(IDENTITY)
    if identity is not None and identity.login is not None:
        async with request.app[DB].begin() as db:
            ended = out.note(db, [await db.run_sync(accounts.end_login, identity.login)])
        tell(
            request, target_user=identity.name
        )  # a GET, as in JupyterHub, that changes something all the same
        await out.cut(request.app, ended)
        log.info("login.ended", user=identity.name)
    location = request.app[SETTINGS].hub_prefix + "login"
    response = web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})
    cookies.clear(request, response)
    return response
