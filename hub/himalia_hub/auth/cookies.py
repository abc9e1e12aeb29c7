"""The cookies of a browser sign-in. Names and paths are JupyterHub's.

The login cookie holds a signed secret; its row holds the hash. The signature lets garbage be refused without
asking the database; the row lets a sign-in be ended from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from aiohttp import web

from himalia_hub import domains
from himalia_hub.auth import origin
from himalia_hub.keys import SECRETS, SETTINGS

LOGIN = "jupyterhub-hub-login"
HOST_ONLY = "__Host-"
"""Before a name: browsers take such a cookie from its own host alone, none below it (RFC 6265bis §4.1.3.2)."""
SESSION = "jupyterhub-session-id"
XSRF = "_xsrf"
ANONYMOUS = "himalia-anonymous"
SERVICES = "jupyterhub-services"

ANONYMOUS_FOR = timedelta(hours=1)


def is_secure(request: web.Request) -> bool:
    """Whether cookies are marked Secure."""
    wish = request.app[SETTINGS].auth.secure_cookies
    return origin.scheme(request) == "https" if wish is None else wish


def login_name(request: web.Request) -> str:
    """The login cookie's name. Where people's servers are hosts below the hub's, none of them may set it, which only
    encrypted connections let one say.
    """
    return HOST_ONLY + LOGIN if domains.cookies_keep_to_their_host(request.app[SETTINGS]) else LOGIN


def login_path(request: web.Request) -> str:
    """The path it is sent to; one with `__Host-` has no choice."""
    return "/" if login_name(request).startswith(HOST_ONLY) else request.app[SETTINGS].hub_prefix


def max_age(request: web.Request) -> timedelta:
    """How long a browser stays signed in."""
    return timedelta(days=request.app[SETTINGS].auth.cookie_max_age_days)


def login_secret(request: web.Request) -> str | None:
    """The secret in the login cookie, or None when there is none or its signature is wrong.

    None, too, when there are two sign-ins: a page of a sibling host can add a cookie of its own account's, which would
    then decide who somebody is.
    """
    shown = _values(request, login_name(request))
    found = {request.app[SECRETS].unsign("login-cookie", value) for value in shown} - {None}
    return found.pop() if len(found) == 1 else None


def _values(request: web.Request, name: str) -> Iterator[str]:
    """Every value that the browser sent under this name; `request.cookies` has the last one alone."""
    for pair in ";".join(request.headers.getall("Cookie", [])).split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            yield value.strip().strip('"')


def set_login(request: web.Request, response: web.StreamResponse, secret: str, session_id: str) -> None:
    """Sign the browser in."""
    signed = request.app[SECRETS].sign("login-cookie", secret)
    put(request, response, login_name(request), signed, path=login_path(request), age=max_age(request))
    set_session(request, response, session_id)


def set_session(request: web.Request, response: web.StreamResponse, session_id: str) -> None:
    """Name the sign-in to services and servers, which ask anew for who has another one."""
    put(request, response, SESSION, session_id, path=request.app[SETTINGS].base_url, age=max_age(request))


def clear(request: web.Request, response: web.StreamResponse) -> None:
    """Sign the browser out, as far as cookies go."""
    settings = request.app[SETTINGS]
    for name, path in (
        (login_name(request), login_path(request)),
        (XSRF, settings.hub_prefix),
        (SESSION, settings.base_url),
        (SERVICES, f"{settings.base_url}services"),
    ):
        response.del_cookie(name, path=path, secure=name.startswith(HOST_ONLY))


def put(
    request: web.Request,
    response: web.StreamResponse,
    name: str,
    value: str,
    *,
    path: str,
    age: timedelta,
    script_may_read: bool = False,
) -> None:
    """Set one cookie with the flags that all of ours have."""
    response.set_cookie(
        name,
        value,
        path=path,
        max_age=int(age.total_seconds()),
        httponly=not script_may_read,
        secure=is_secure(request) or name.startswith(HOST_ONLY),
        samesite="Lax",
    )
