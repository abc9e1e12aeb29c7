"""One question for every request that is not public: who asks, and may this request come from there?"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of, wants_json
from himalia_singleuser.auth import oauth, xsrf
from himalia_singleuser.auth.keys import AUTH
from himalia_singleuser.auth.origin import check_host, check_origin, is_websocket
from himalia_singleuser.errors import Forbidden
from himalia_singleuser.keys import SETTINGS, Identity

COOKIE_DAYS = 30
MONTH_S = COOKIE_DAYS * 24 * 3600

CookieChange = Callable[[web.StreamResponse], None]


@dataclass(frozen=True, slots=True)
class Admission:
    """The outcome: an identity to go on with, or an answer instead; and cookies for the answer."""

    identity: Identity
    answer: web.StreamResponse | None = None
    cookies: Sequence[CookieChange] = ()


class Stranger(Forbidden):
    """Nobody that is known here; `cookies` takes back what they came with."""

    def __init__(self, cookies: Sequence[CookieChange] = ()) -> None:
        super().__init__()
        self.cookies = cookies


NOBODY = Identity("")


async def admit(request: web.Request) -> Admission:
    """Token first, then cookie; whoever comes by cookie must come from our own page."""
    check_host(request)
    identity, cookies = await _identify(request)
    if identity is None:
        return Admission(NOBODY, _send_to_login(request, cookies))
    if not identity.via_token:
        check_origin(request)
        xsrf.check(request, identity.username)
    return Admission(identity, None, cookies)


async def _identify(request: web.Request) -> tuple[Identity | None, list[CookieChange]]:
    auth = request.app[AUTH]
    token = token_of(request)
    name = auth.cookie_name(request)
    if auth.hub is not None:
        known = await oauth.identify(request, auth.hub, token)
        if known is None:
            return None, _forget_stale(request, name) if not token else []
        by_link = token != "" and token == request.query.get("token") and not is_websocket(request)
        return known, [_remember_token(request, token)] if by_link else []
    kept = auth.read_cookie(request, name, max_age_s=MONTH_S)
    known = _identity_from(kept) if kept else None
    if comes_by_token(request):
        if known:
            return replace(known, via_token=True), []
        known = new_identity()
        return replace(known, via_token=True), [remember(request, known)]
    return known, _forget_stale(request, name) if known is None else []


def _forget_stale(request: web.Request, name: str) -> list[CookieChange]:
    """A login cookie that opens nothing any more is taken back; one that was not sent may be another tab's new one."""
    auth = request.app[AUTH]
    return [lambda answer: auth.drop_cookie(request, answer, name)] if name in request.cookies else []


def token_of(request: web.Request) -> str:
    """`?token=` wins over `Authorization: token|Bearer`. Behind a hub only WebSockets may use the URL, unless it says
    that links do.
    """
    in_url, hub = request.query.get("token", ""), request.app[SETTINGS].hub
    if in_url and (hub is None or hub.token_in_url or is_websocket(request)):
        return in_url
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return value.strip() if scheme.lower() in {"token", "bearer"} else ""


def comes_by_token(request: web.Request) -> bool:
    """Whether the request carries the token of this server, which has one of its own when no hub started it."""
    wanted = request.app[SETTINGS].token
    return bool(wanted) and _same(token_of(request), wanted)


def _remember_token(request: web.Request, token: str) -> CookieChange:
    """The cookie of who came by a link with a token of the hub's, as if they had signed in there."""
    auth = request.app[AUTH]
    name = auth.cookie_name(request)
    return lambda answer: auth.set_cookie(request, answer, name, token, max_age_s=oauth.TOKEN_AGE_S)


def remember(request: web.Request, identity: Identity) -> CookieChange:
    """The login cookie for this identity, to be put on the answer."""
    auth = request.app[AUTH]
    fields = ("username", "name", "display_name", "initials", "avatar_url", "color")
    value = json.dumps({field: getattr(identity, field) for field in fields})
    name = auth.cookie_name(request)
    return lambda answer: auth.set_cookie(request, answer, name, value, max_age_s=MONTH_S)


def _identity_from(text: str) -> Identity | None:
    try:
        return Identity(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


BIRDS = (
    "Avocet",
    "Bunting",
    "Crane",
    "Dipper",
    "Egret",
    "Finch",
    "Godwit",
    "Heron",
    "Ibis",
    "Jay",
    "Kestrel",
)


def new_identity() -> Identity:
    """Somebody who knows the token but has not said a name: told apart by a bird."""
    bird = secrets.choice(BIRDS)
    name = f"Anonymous {bird}"
    return Identity(secrets.token_hex(16), name, name, f"A{bird[0]}")


def _send_to_login(request: web.Request, cookies: Sequence[CookieChange]) -> web.StreamResponse:
    """Pages lead to the login; programs and sockets are told no, a redirect would only confuse them."""
    if is_websocket(request) or wants_json(request) or request.method not in {"GET", "HEAD"}:
        raise Stranger(cookies)
    auth = request.app[AUTH]
    if auth.hub is not None:
        answer = oauth.begin(request, auth.hub)
    else:
        wanted = quote(request.rel_url.raw_path_qs, safe="/")
        answer = web.Response(status=302, headers={hdrs.LOCATION: f"{base_of(request)}login?next={wanted}"})
    for change in cookies:
        change(answer)
    return answer
