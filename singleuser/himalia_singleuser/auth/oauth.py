"""Login through the hub: authorization code with PKCE, then a signed cookie that holds the hub's token.

Nothing is kept in memory between the steps: the state cookie is signed, and the PKCE verifier is derived
from the state by the signing key, so a login survives a restart of this server in the middle of it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlencode

from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of, page
from himalia_singleuser.auth.keys import AUTH
from himalia_singleuser.auth.nexturl import safe_next
from himalia_singleuser.auth_marks import public
from himalia_singleuser.errors import BadRequest, Forbidden, NotFound
from himalia_singleuser.hub import HubClient, HubUser
from himalia_singleuser.keys import MAY_STAY, Identity

STATE_AGE_S = 600
TOKEN_AGE_S = 14 * 24 * 3600
MOST_STATES = 8
SESSION_COOKIE = "jupyterhub-session-id"


async def identify(request: web.Request, hub: HubClient, token: str) -> Identity | None:
    """Who this is for the hub: by the token sent along, else by the one in the cookie."""
    auth = request.app[AUTH]
    via_token = bool(token)
    if not token:
        token = auth.read_cookie(request, auth.cookie_name(request), max_age_s=TOKEN_AGE_S) or ""
    if not token:
        return None
    # When somebody is signed out elsewhere or suspended, the hub has their WebSockets cut. The page opens them again
    # at once; were the answer from memory, they would stay. Asked anew, it ends what is remembered too.
    opens_socket = request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"
    session_id = request.cookies.get(SESSION_COOKIE, "")
    user = await hub.user_of(token, session_id=session_id, fresh=opens_socket)
    if user is None:
        return None
    if not user.may_enter(hub.settings.access_scopes):
        raise Forbidden(f"{user.name} may not use this server")
    # Of the owner's own browser the proxy cuts the WebSockets, and each request that a page makes asks the hub; if all
    # open pages of all people asked besides, that would be most of what a large hub answers.
    ask = via_token or user.name != hub.settings.user
    may_stay: Callable[[], Awaitable[bool]] = partial(hub.may_stay, token, session_id=session_id, ask=ask)
    request[MAY_STAY] = may_stay
    return _identity(user, via_token=via_token)


def _identity(user: HubUser, *, via_token: bool) -> Identity:
    shown = user.shown or user.name
    initials = "".join(word[0] for word in shown.split()[:2]).upper()
    return Identity(user.name, shown, shown, initials or None, via_token=via_token)


def begin(request: web.Request, hub: HubClient) -> web.Response:
    """Off to the hub's authorize page, with a cookie that remembers where the visitor wanted to go."""
    auth = request.app[AUTH]
    state = secrets.token_urlsafe(16)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(_verifier(request, state).encode()).digest())
    query = {
        "client_id": hub.settings.client_id,
        "redirect_uri": _redirect_uri(request, hub),
        "response_type": "code",
        "state": state,
        "code_challenge": challenge.decode().rstrip("="),
        "code_challenge_method": "S256",
    }
    answer = web.Response(
        status=302,
        headers={
            hdrs.LOCATION: f"{hub.settings.prefix}api/oauth2/authorize?{urlencode(query)}",
            hdrs.CACHE_CONTROL: "no-store",
        },
    )
    pending = [name for name in request.cookies if name.startswith(_state_prefix(request))]
    if len(pending) >= MOST_STATES:
        for name in pending:
            auth.drop_cookie(request, answer, name)
    value = json.dumps({"state": state, "next": request.rel_url.raw_path_qs})
    auth.set_cookie(request, answer, _state_cookie(request, state), value, max_age_s=STATE_AGE_S)
    return answer


@public
async def callback(request: web.Request) -> web.StreamResponse:
    """The hub sends the visitor back with a code; it becomes a token, the token a cookie."""
    auth = request.app[AUTH]
    if auth.hub is None:
        raise NotFound
    if error := request.query.get("error"):
        detail = request.query.get("error_description") or error
        raise Forbidden(f"The hub refused the login: {detail}")
    code, state = request.query.get("code", ""), request.query.get("state", "")
    if not code or not state:
        raise BadRequest("The login's code or state is missing: open this server from the hub again")
    cookie = _state_cookie(request, state)
    kept = json.loads(auth.read_cookie(request, cookie, max_age_s=STATE_AGE_S) or "{}")
    if not hmac.compare_digest(str(kept.get("state", "")).encode(), state.encode()):
        return _expired(request)
    token = await auth.hub.token_for_code(
        code, redirect_uri=_redirect_uri(request, auth.hub), verifier=_verifier(request, state)
    )
    user = await auth.hub.user_of(token, session_id=request.cookies.get(SESSION_COOKIE, ""))
    if user is None or not user.may_enter(auth.hub.settings.access_scopes):
        raise Forbidden(f"{user.name if user else 'This login'} may not use this server")
    target = safe_next(request, str(kept.get("next", "")))
    headers = {hdrs.LOCATION: target, hdrs.CACHE_CONTROL: "no-store"}
    answer = web.Response(status=302, headers=headers)
    auth.set_cookie(request, answer, auth.cookie_name(request), token, max_age_s=TOKEN_AGE_S)
    auth.drop_cookie(request, answer, cookie)
    return answer


def _expired(request: web.Request) -> web.Response:
    body = (
        "<p>The login took too long, or began in another browser.</p>"
        f'<p><a href="{html.escape(base_of(request))}">Try again</a></p>'
    )
    return page("Login expired", body, status=403)


def _verifier(request: web.Request, state: str) -> str:
    return request.app[AUTH].signer.mac("pkce", state)


def _redirect_uri(request: web.Request, hub: HubClient) -> str:
    return hub.settings.oauth_callback_url or f"{base_of(request)}oauth_callback"


def _state_prefix(request: web.Request) -> str:
    return request.app[AUTH].cookie_name(request) + "-oauth-state-"


def _state_cookie(request: web.Request, state: str) -> str:
    """One cookie per login under way: tabs that open together must not overwrite each other's."""
    return _state_prefix(request) + hashlib.sha256(state.encode()).hexdigest()[:12]
