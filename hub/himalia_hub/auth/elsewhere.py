"""Off to another site to sign in, and back. What was begun lives in a signed cookie of that browser, nowhere else."""

from __future__ import annotations

import json
from datetime import timedelta

import structlog
from aiohttp import web

from himalia_hub import clock
from himalia_hub.auth import begin, cookies, origin
from himalia_hub.auth.admit import NotAdmitted
from himalia_hub.auth.base import WayDown
from himalia_hub.auth.door import DOOR, enter
from himalia_hub.auth.login import login_form
from himalia_hub.auth.vault import VAULT
from himalia_hub.errors import NotAuthenticated
from himalia_hub.keys import DB, SECRETS, SETTINGS
from himalia_hub.rbac.guard import public

LASTS = timedelta(minutes=10)
PURPOSE = "login-elsewhere"

log = structlog.get_logger()


class NotProven(NotAuthenticated):
    """The browser came back without proof of who it is; why exactly stands in the log."""

    code = "not-proven"

    def __init__(self, title: str) -> None:
        super().__init__(f"Signing in with {title} did not work.", remedy="Try again.")


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "login/{way}", depart, allow_head=False),
        web.get(prefix + "login/{way}/callback", come_back, allow_head=False),
    ]


@public
async def depart(request: web.Request) -> web.Response:
    """302 to the provider; the sign-in page with the reason when it cannot be reached."""
    entrance, way = request.app[DOOR].by_redirect(request.match_info["way"])
    try:
        departure = await way.begin(_callback(request, entrance.name))
    except WayDown as error:
        return await login_form(request, status=error.status, error=error)
    expires = int((clock.now() + LASTS).timestamp())
    value = json.dumps([expires, begin.destination(request), dict(departure.kept)])
    response = web.Response(status=302, headers={"Location": departure.url, "Cache-Control": "no-store"})
    signed = request.app[SECRETS].sign(PURPOSE, f"{entrance.name}:{value.encode().hex()}")
    path = request.app[SETTINGS].hub_prefix + f"login/{entrance.name}"
    cookies.put(request, response, _cookie(entrance.name), signed, path=path, age=LASTS)
    return response


@public
async def come_back(request: web.Request) -> web.Response:
    """302 onwards with cookies; the sign-in page with what was wrong: 403, or 503 while the provider is away."""
    entrance, way = request.app[DOOR].by_redirect(request.match_info["way"])
    try:
        location, kept = _begun(request, entrance.name)
        person = await way.finish(_callback(request, entrance.name), dict(request.query), kept)
        if person is None:
            raise NotProven(entrance.title)
        user = await enter(request.app[DB], entrance, person, vault=request.app[VAULT])
        response = await begin.sign_in(request, user, location)
    except (NotProven, NotAdmitted, WayDown) as error:
        log.info("login.refused", reason=error.code, method=entrance.name, address=origin.address(request))
        response = await login_form(request, status=error.status, error=error)
    path = request.app[SETTINGS].hub_prefix + f"login/{entrance.name}"
    response.del_cookie(_cookie(entrance.name), path=path)
    return response


def _begun(request: web.Request, name: str) -> tuple[str, dict[str, str]]:
    """Where to go afterwards and what the way kept; nothing kept when this browser began nothing, or long ago."""
    signed = request.cookies.get(_cookie(name), "")
    value = request.app[SECRETS].unsign(PURPOSE, signed) if signed else None
    owner, _, packed = (value or "").partition(":")
    if owner != name:
        return "", {}
    expires, location, kept = json.loads(bytes.fromhex(packed))
    return (location, kept) if expires > clock.now().timestamp() else ("", {})


def _callback(request: web.Request, name: str) -> str:
    """What the provider must know as the redirect URI."""
    settings = request.app[SETTINGS]
    public_url = settings.public_url.rstrip("/") or f"{origin.scheme(request)}://{request.host}"
    return f"{public_url}{settings.hub_prefix}login/{name}/callback"


def _cookie(name: str) -> str:
    return f"himalia-login-{name}"
