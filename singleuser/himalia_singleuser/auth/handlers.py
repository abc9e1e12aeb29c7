"""Signing in and out."""

from __future__ import annotations

import asyncio
import hmac
import html
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

import structlog
from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of, page
from himalia_singleuser.auth import oauth, passwords, xsrf
from himalia_singleuser.auth.guard import MONTH_S, comes_by_token, new_identity, remember
from himalia_singleuser.auth.keys import AUTH
from himalia_singleuser.auth.nexturl import safe_next
from himalia_singleuser.auth.origin import check_host, same_origin
from himalia_singleuser.auth_marks import public
from himalia_singleuser.errors import ApiError, Forbidden, TooLarge
from himalia_singleuser.keys import SETTINGS

log = structlog.get_logger(__name__)

FORM = """
{problem}
<form method="post" action="{action}">
<input type="hidden" name="_xsrf" value="{xsrf}">
<label for="password">{label}</label>
<input id="password" name="password" type="password" autocomplete="current-password" autofocus required>
<button>Sign in</button></form>
<p class="hint">The token is in the address that the server printed when it started.{hint}</p>
"""
LARGEST_FORM = 16 * 1024
MOST_WAITING = 8


@dataclass(slots=True)
class Guessing:
    """One password at a time: a guess costs 32 MB and a fifth of a second, and a flood of them must not cost more."""

    turn: asyncio.Lock
    waiting: int = 0


GUESSING = web.AppKey("GUESSING", Guessing)


@public
async def show_login(request: web.Request) -> web.StreamResponse:
    """The form, or straight on for who is signed in already. Behind a hub the hub does the login."""
    check_host(request)
    auth = request.app[AUTH]
    wanted = safe_next(request, request.query.get("next", ""))
    if auth.hub is not None or auth.read_cookie(request, auth.cookie_name(request), max_age_s=MONTH_S):
        return web.Response(status=302, headers={hdrs.LOCATION: wanted})
    return _signed_in(request, wanted) if comes_by_token(request) else _form(request)


@public
async def login(request: web.Request) -> web.StreamResponse:
    """Token or password against login cookie. The origin must be ours: nobody shall be signed in from elsewhere."""
    check_host(request)
    if request.app[AUTH].hub is not None or not same_origin(request):
        raise Forbidden
    fields = await _fields(request)
    if not await _is_right(request, fields.get("password", "")):
        log.warning("login.refused", remote=request.remote)
        return _form(request, "That is not right.", status=401)
    wanted = safe_next(request, request.query.get("next") or fields.get("next", ""))
    return _signed_in(request, wanted)


def _signed_in(request: web.Request, wanted: str) -> web.Response:
    answer = web.Response(status=302, headers={hdrs.LOCATION: wanted})
    identity = new_identity()
    remember(request, identity)(answer)
    xsrf.give(request, answer, identity.username)
    return answer


async def _fields(request: web.Request) -> dict[str, str]:
    """The form, which is small: a stranger must not make this server hold more."""
    raw = await request.content.read(LARGEST_FORM + 1)
    while not request.content.at_eof() and len(raw) <= LARGEST_FORM:
        raw += await request.content.read(LARGEST_FORM + 1 - len(raw))
    if len(raw) > LARGEST_FORM:
        raise TooLarge("A login form holds a password and nothing else")
    return dict(parse_qsl(raw.decode("utf-8", "surrogateescape"), keep_blank_values=True, max_num_fields=20))


async def _is_right(request: web.Request, given: str) -> bool:
    """The token, or else the password if there is one."""
    token, password = request.app[SETTINGS].token, request.app[AUTH].password
    if token and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode()):
        return True
    kept = password.current() if password else ""
    if not given or not kept:
        return False
    guessing = request.app[GUESSING]
    if guessing.waiting >= MOST_WAITING:
        raise ApiError("Too many people try to sign in at once: try again in a moment", status=429)
    guessing.waiting += 1
    try:
        async with guessing.turn:
            return await asyncio.to_thread(passwords.matches, kept, given)
    finally:
        guessing.waiting -= 1


@public
async def logout(request: web.Request) -> web.StreamResponse:
    """Forget this browser; behind a hub, go on to the hub's own logout."""
    auth = request.app[AUTH]
    answer: web.Response
    if auth.settings.hub:
        location = auth.settings.hub.prefix + "logout"
        answer = web.Response(status=302, headers={hdrs.LOCATION: location})
        if token := auth.read_cookie(request, auth.cookie_name(request), max_age_s=oauth.TOKEN_AGE_S):
            assert auth.hub is not None
            auth.hub.forget(token)
    else:
        again = html.escape(base_of(request))
        answer = page("Signed out", f'<p><a href="{again}login">Sign in again</a></p>')
    auth.drop_cookie(request, answer, auth.cookie_name(request))
    return answer


def _form(request: web.Request, problem: str = "", *, status: int = 200) -> web.Response:
    query = request.rel_url.raw_query_string
    action = html.escape(f"{base_of(request)}login" + (f"?{query}" if query else ""))
    problem = f'<p class="error" role="alert">{html.escape(problem)}</p>' if problem else ""
    password = request.app[AUTH].password
    has_password = bool(password and password.current())
    value = xsrf.fresh(request, "")
    body = FORM.format(
        problem=problem,
        action=action,
        xsrf=html.escape(value),
        label="Password or token" if has_password else "Token",
        hint=""
        if has_password
        else " To use a password instead: <code>himalia singleuser --set-password</code>.",
    )
    answer = page("Sign in", body, status=status, headers={hdrs.CACHE_CONTROL: "no-store"})
    xsrf.give(request, answer, "", value)
    return answer


async def open_login(app: web.Application) -> AsyncIterator[None]:
    """Nothing to close; it belongs to the running loop."""
    app[GUESSING] = Guessing(asyncio.Lock())
    yield


routes = [
    web.get("/login", show_login),
    web.post("/login", login),
    web.get("/logout", logout),
    web.get("/oauth_callback", oauth.callback),
]
lifetimes = [open_login]
