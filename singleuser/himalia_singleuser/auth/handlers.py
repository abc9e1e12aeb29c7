"""Signing in and out."""

from __future__ import annotations

import hmac
import html

from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of, page
from himalia_singleuser.auth import oauth
from himalia_singleuser.auth.guard import MONTH_S, new_identity, remember
from himalia_singleuser.auth.keys import AUTH
from himalia_singleuser.auth.nexturl import safe_next
from himalia_singleuser.auth.origin import check_host, same_origin
from himalia_singleuser.auth_marks import public
from himalia_singleuser.errors import Forbidden
from himalia_singleuser.keys import SETTINGS

FORM = """
{problem}
<form method="post" action="{action}">
<p><label>Token <input name="password" type="password" autofocus required></label>
<button>Sign in</button></p></form>
<p>The token is in the address that the server printed when it started.</p>
"""


@public
async def show_login(request: web.Request) -> web.StreamResponse:
    """The form, or straight on for who is signed in already. Behind a hub the hub does the login."""
    check_host(request)
    auth = request.app[AUTH]
    wanted = safe_next(request, request.query.get("next", ""))
    if auth.hub is not None or auth.read_cookie(request, auth.cookie_name(request), max_age_s=MONTH_S):
        return web.Response(status=302, headers={hdrs.LOCATION: wanted})
    return _form(request)


@public
async def login(request: web.Request) -> web.StreamResponse:
    """Token against login cookie. The origin must be ours: nobody shall be signed in from elsewhere."""
    check_host(request)
    if request.app[AUTH].hub is not None or not same_origin(request):
        raise Forbidden
    form = await request.post()
    given = form.get("password", "")
    if not isinstance(given, str) or not hmac.compare_digest(
        given.encode("utf-8", "surrogateescape"), request.app[SETTINGS].token.encode()
    ):
        return _form(request, "That is not the token of this server.", status=401)
    wanted = safe_next(request, request.query.get("next", ""))
    answer = web.Response(status=302, headers={hdrs.LOCATION: wanted})
    remember(request, new_identity())(answer)
    return answer


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
    return page("Sign in", FORM.format(problem=problem, action=action), status=status)


routes = [
    web.get("/login", show_login),
    web.post("/login", login),
    web.get("/logout", logout),
    web.get("/oauth_callback", oauth.callback),
]
