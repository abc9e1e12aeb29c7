"""Which other pages may talk to this server, and under which names it may be addressed."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from himalia_singleuser.answers import wants_json
from himalia_singleuser.auth_marks import PUBLIC, access_of
from himalia_singleuser.errors import Forbidden, NotFound
from himalia_singleuser.keys import IDENTITY, SETTINGS


def is_websocket(request: web.Request) -> bool:
    """Whether the client asks for an upgrade to a WebSocket."""
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def same_origin(request: web.Request) -> bool:
    """No `Origin` (scripts, same-site navigation) counts as ours; so does the one of `allow_origin`."""
    origin = request.headers.get(hdrs.ORIGIN) or request.headers.get("Sec-Websocket-Origin")
    if not origin:
        return True
    allowed = request.app[SETTINGS].allow_origin
    if allowed == "*" or (allowed and origin.lower() == allowed.lower()):
        return True
    if _matches_pattern(request, origin):
        return True
    return netloc_of(origin.lower()) == request.headers.get(hdrs.HOST, "").lower()


def netloc_of(url: str) -> str | None:
    """Host and port as they stand in `url`, None when it is no URL: `http://[::bad`."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None


def _matches_pattern(request: web.Request, origin: str) -> bool:
    """As a whole: a pattern that matched a beginning would let `https://trusted.example.evil.example` in."""
    pattern = request.app[SETTINGS].allow_origin_pat
    return bool(pattern) and re.fullmatch(pattern, origin) is not None


def check_origin(request: web.Request) -> None:
    """Refuse what another site's page sent with this browser's cookies."""
    if same_origin(request):
        return
    if is_websocket(request) or not wants_json(request):
        raise Forbidden("Requests from pages of another site are refused")
    raise NotFound


def check_host(request: web.Request) -> None:
    """Alone on this machine, only names of this machine are answered (DNS rebinding)."""
    settings = request.app[SETTINGS]
    if settings.allow_remote_access or settings.socket or settings.listen_fd is not None:
        return
    host = request.headers.get(hdrs.HOST, "")
    name = (urlsplit(f"//{host}").hostname if netloc_of(f"//{host}") else "") or ""
    if name == "localhost" or name.endswith(".localhost") or _is_loopback(name):
        return
    raise Forbidden(f"The host name {host!r} is not one of this machine: start with --ip to be reached by it")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def allowed_origin(request: web.Request) -> str | None:
    """The value of Access-Control-Allow-Origin, None when no other page may read the answer."""
    origin = request.headers.get(hdrs.ORIGIN)
    if not origin:
        return None
    if allowed := request.app[SETTINGS].allow_origin:
        return allowed
    if _matches_pattern(request, origin):
        return origin
    identity = request.get(IDENTITY)
    if identity is not None and identity.via_token:
        return origin
    if request.match_info.http_exception is None and access_of(request.match_info.handler) == PUBLIC:
        return None
    # A preflight carries no token yet: what it allows is only to ask, and asking then needs the token.
    return origin if request.method == hdrs.METH_OPTIONS else None
