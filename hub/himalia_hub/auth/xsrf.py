"""Protection against requests that another page makes with the visitor's cookies.

A token is bound to the sign-in, or before it to a random value in a signed cookie, so that one taken from
another account or browser is worth nothing. Fetch metadata comes first: what the browser itself says was made
elsewhere is refused, whatever it carries. Requests that are signed with an API token are never checked:
no browser adds that header by itself.
"""

from __future__ import annotations

import base64
import secrets

from aiohttp import web

from himalia_hub.auth import cookies, origin
from himalia_hub.auth.forms import posted
from himalia_hub.errors import NotAuthorized
from himalia_hub.keys import IDENTITY, SECRETS, SETTINGS
from himalia_hub.secrets import mint, same

ANONYMOUS_ID: web.RequestKey[str] = web.RequestKey("anonymous_id")
"""The browser's anonymous value: from its cookie, or minted for this answer."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
FIELD = "_xsrf"


class XsrfFailed(NotAuthorized):
    """A request with cookies did not prove that one of our own pages made it."""

    code = "xsrf"

    def __init__(self, why: str) -> None:
        super().__init__(f"'_xsrf' argument {why}", remedy="reload the page and send the form again")


def xsrf_token(request: web.Request) -> str:
    """The value for the hidden field `_xsrf`, or the header X-XSRFToken, of pages shown to this visitor."""
    identity = request.get(IDENTITY)
    if identity is not None and identity.login is not None:
        return token_of(request, identity.login.session_id)
    if ANONYMOUS_ID not in request:
        request[ANONYMOUS_ID] = _anonymous_id(request) or mint()
    return _signed(request, f"anonymous:{request[ANONYMOUS_ID]}")


def token_of(request: web.Request, session_id: str) -> str:
    """The value for pages of this sign-in."""
    return _signed(request, f"login:{session_id}")


def _signed(request: web.Request, bound: str) -> str:
    # Only the signature is shown: the token must not carry the session id or the cookie's value.
    return request.app[SECRETS].sign("xsrf", bound).rpartition(".")[2]


def masked(token: str) -> str:
    """The token in another form each time, for pages that are packed: what never repeats cannot be guessed from how
    well it packs beside what an attacker had a hand in (BREACH, breachattack.com).
    """
    plain = token.encode()
    mask = secrets.token_bytes(len(plain))
    return base64.urlsafe_b64encode(mask + _xor(mask, plain)).decode().rstrip("=")


def _unmasked(given: str, length: int) -> str:
    """The token behind either form; what is neither comes back as it is, and matches nothing."""
    try:
        both = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4))
        return _xor(both[:length], both[length:]).decode() if len(both) == 2 * length else given
    except ValueError:
        return given


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))


def _anonymous_id(request: web.Request) -> str | None:
    signed = request.cookies.get(cookies.ANONYMOUS)
    return request.app[SECRETS].unsign("anonymous", signed) if signed else None


def set_cookies(request: web.Request, response: web.StreamResponse) -> None:
    """Give the browser what a shown token is bound to; called for pages only."""
    prefix = request.app[SETTINGS].hub_prefix
    identity = request.get(IDENTITY)
    if identity is not None and identity.login is not None:
        if request.cookies.get(cookies.XSRF) != xsrf_token(request):
            put_token(request, response, identity.login.session_id)
        if request.cookies.get(cookies.SESSION) != identity.login.session_id:
            cookies.set_session(request, response, identity.login.session_id)
    # Where nobody was asked who they are, the page says nothing of that, and leaves the cookies that there are.
    elif ANONYMOUS_ID in request and IDENTITY in request:
        signed = request.app[SECRETS].sign("anonymous", request[ANONYMOUS_ID])
        age = cookies.ANONYMOUS_FOR
        cookies.put(request, response, cookies.ANONYMOUS, signed, path=prefix, age=age)
        cookies.put(
            request, response, cookies.XSRF, xsrf_token(request), path=prefix, age=age, script_may_read=True
        )


def put_token(request: web.Request, response: web.StreamResponse, session_id: str) -> None:
    """Give the browser of this sign-in its token. Programs take it from the answer that signed them in."""
    cookies.put(
        request, response, cookies.XSRF, token_of(request, session_id),
        path=request.app[SETTINGS].hub_prefix, age=cookies.max_age(request), script_may_read=True,
    )  # fmt: skip


def needs_check(request: web.Request) -> bool:
    """Whether a request with cookies must prove itself. Everything that changes something must.

    Of reading requests those made by a script: pages of people's servers may share our origin. Navigation,
    WebSocket handshakes, clients without fetch metadata, and pictures, styles and scripts of our own pages
    need not. `fetch(…, {mode: "no-cors"})` can read an answer of its own origin; its destination is empty.
    """
    if request.method not in SAFE:
        return True
    if request.method == "OPTIONS":
        return False
    mode = request.headers.get("Sec-Fetch-Mode", "").lower()
    if mode in ("", "navigate", "websocket"):
        return False
    embedded = request.headers.get("Sec-Fetch-Dest", "empty").lower() != "empty"
    return not (mode == "no-cors" and embedded and not origin.comes_from_elsewhere(request))


async def check(request: web.Request) -> None:
    """XsrfFailed unless one of our own pages, shown to this visitor, made the request."""
    if request.method not in SAFE and origin.comes_from_elsewhere(request):
        raise XsrfFailed("was sent from another site")
    given = await _given(request)
    if not given:
        raise XsrfFailed("missing from POST" if request.method == "POST" else "missing")
    wanted = xsrf_token(request)
    if len(given) > 512 or not same(_unmasked(given, len(wanted)), wanted):
        raise XsrfFailed("does not match; the page is too old or belongs to another sign-in")


async def _given(request: web.Request) -> str:
    for header in ("X-XSRFToken", "X-CSRFToken"):
        if header in request.headers:
            return request.headers[header]
    if FIELD in request.query:
        return request.query[FIELD]
    if request.method not in SAFE and request.content_type in FORMS:
        value = (await posted(request)).get(FIELD)
        return value if isinstance(value, str) else ""
    return ""
