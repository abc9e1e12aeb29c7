"""The `_xsrf` value: set on pages, sent back by their scripts, so that no other site's page can act.

The value is signed for the person it was given to, so a cookie planted from a neighbouring host name
is worth nothing (a plain double submit would believe it).
"""

from __future__ import annotations

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of
from himalia_singleuser.auth.keys import AUTH
from himalia_singleuser.auth.origin import netloc_of
from himalia_singleuser.errors import Forbidden
from himalia_singleuser.keys import SETTINGS

COOKIE = "_xsrf"
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
GUARDED_READS = ("files/", "nbconvert/")


def fresh(request: web.Request, username: str) -> str:
    """The value of this browser, kept when it is still valid, so that open pages go on working."""
    for value in _cookies(request):
        if _is_mine(request, value, username):
            return value
    nonce = secrets.token_urlsafe(12)
    return f"{nonce}.{request.app[AUTH].signer.mac('xsrf:' + username, nonce)}"


def give(request: web.Request, response: web.StreamResponse, username: str, value: str = "") -> None:
    """Set the cookie on a page. Scripts read it, so it is not HttpOnly."""
    secure = request.app[AUTH].is_secure(request)
    value = value or fresh(request, username)
    response.set_cookie(COOKIE, value, path=base_of(request), secure=secure, samesite="Lax")


def check(request: web.Request, username: str) -> None:
    """Refuse a cookie-authenticated change (or download) without the value."""
    path = request.path.removeprefix(request.app[SETTINGS].base_url)
    if request.method not in UNSAFE and not path.startswith(GUARDED_READS):
        return
    if path == "api/security/csp-report":
        return
    sent = (
        request.headers.get("X-XSRFToken")
        or request.headers.get("X-CSRFToken")
        or request.query.get(COOKIE)
        or ""
    )
    if request.method not in UNSAFE and (not sent) and _comes_from_here(request):
        return
    if not sent:
        raise Forbidden(f"'_xsrf' argument missing from {request.method}")
    in_cookie = any(hmac.compare_digest(sent.encode(), value.encode()) for value in _cookies(request))
    if not (in_cookie and _is_mine(request, sent, username)):
        raise Forbidden("XSRF cookie does not match '_xsrf' argument")


def _is_mine(request: web.Request, value: str, username: str) -> bool:
    nonce, _, mac = value.partition(".")
    wanted = request.app[AUTH].signer.mac("xsrf:" + username, nonce)
    return hmac.compare_digest(mac.encode(), wanted.encode())


def _comes_from_here(request: web.Request) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site:
        return site in {"same-origin", "none"}
    referer = request.headers.get(hdrs.REFERER, "")
    return bool(referer) and netloc_of(referer.lower()) == request.headers.get(hdrs.HOST, "").lower()


def _cookies(request: web.Request) -> list[str]:
    """All cookies of that name: a neighbour may have set one for a wider path, in any order."""
    found = []
    for header in request.headers.getall(hdrs.COOKIE, []):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                found.append(_unquoted(value))
    return found


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return SimpleCookie(f"x={value}")["x"].value
    except (CookieError, KeyError):
        return value
