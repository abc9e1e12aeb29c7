"""The door: every handler says on the line above it who may come in, and a test walks the route list for it.

Under the API a refusal is an error; for pages a visitor who is not signed in is sent to the sign-in page.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, overload
from urllib.parse import quote

from aiohttp import web

from himalia_hub.errors import NotAuthenticated, NotAuthorized, NotFound
from himalia_hub.keys import IDENTITY, SETTINGS
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.scopes import SCOPES
from himalia_hub.settings import HubSettings

R = TypeVar("R", bound=web.StreamResponse)
Handler = Callable[[web.Request], Awaitable[R]]
ATTRIBUTE = "__himalia_access__"

NO_ACCESS = "No access to resources or resources not found"
"""The same words for what does not exist and for what the caller may not know of."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a handler.

    `tokens`: whether an Authorization header counts (None: under the API only, as in JupyterHub).
    `xsrf_by_hand`: the handler checks cross-site protection itself, to answer with its own form.
    """

    kind: Literal["public", "scoped", "signed_in"]
    scopes: tuple[str, ...] = ()
    tokens: bool | None = None
    xsrf_by_hand: bool = False


def access_of(handler: object) -> Access | None:
    """What a handler declared, or None when it declared nothing."""
    return getattr(handler, ATTRIBUTE, None)


@overload
def public(handler: Handler[R], /) -> Handler[R]: ...
@overload
def public(
    *,
    tokens: bool | None = ...,
    xsrf_by_hand: bool = ...,
) -> Callable[[Handler[R]], Handler[R]]: ...
def public(
    handler: Handler[R] | None = None, /, *, tokens: bool | None = None, xsrf_by_hand: bool = False
) -> Handler[R] | Callable[[Handler[R]], Handler[R]]:
    """Anybody may call it; who they are is in `request[IDENTITY]`. Bare, or with options as in Access."""

    def decorate(handler: Handler[R]) -> Handler[R]:
        setattr(handler, ATTRIBUTE, Access("public", tokens=tokens, xsrf_by_hand=xsrf_by_hand))
        return handler

    return decorate if handler is None else decorate(handler)


def scoped(
    *scopes: str,
    filtered: bool = False,
    outside: Literal[403, 404] = 404,
    tokens: bool | None = None,
    unless: Callable[[HubSettings], bool] | None = None,
) -> Callable[[Handler[R]], Handler[R]]:
    """Who holds any of these scopes on the `{user}` (and `{server}`), `{group}` or `{service}` of the path.

    Without such a target the scope must be held on everything, unless `filtered`: then the handler itself
    narrows what it shows. `outside` is the answer when the scope is held, but not on this target. Where the
    configuration says so (`unless`), nothing is needed.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise ValueError(f"not a scope: {unknown}")

    def decorate(handler: Handler[R]) -> Handler[R]:
        @functools.wraps(handler)
        async def guarded(request: web.Request) -> R:
            if unless is None or not unless(request.app[SETTINGS]):
                require(request, *scopes, filtered=filtered, outside=outside)
            return await handler(request)

        setattr(guarded, ATTRIBUTE, Access("scoped", scopes, tokens=tokens))
        return guarded

    return decorate


def signed_in(handler: Handler[R]) -> Handler[R]:
    """A person with a browser: the login cookie counts, a token does not. Others go to the sign-in page."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> R:
        if request.get(IDENTITY) is None:
            raise to_login(request)
        return await handler(request)

    setattr(guarded, ATTRIBUTE, Access("signed_in", tokens=False))
    return guarded


def require(
    request: web.Request, *scopes: str, filtered: bool = False, outside: Literal[403, 404] = 404
) -> Identity:
    """Who asks, when they may; else a refusal: 403 without the scope, `outside` beyond its filter."""
    identity: Identity | None = request.get(IDENTITY)
    if identity is None:
        access = access_of(request.match_info.handler)
        by_program = is_api(request) or (access is not None and access.tokens)
        raise NotAuthenticated if by_program else to_login(request)
    user, server = request.match_info.get("user"), request.match_info.get("server", "")
    group, service = request.match_info.get("group"), request.match_info.get("service")
    if any(
        identity.allows(scope, user=user, server=server, group=group, service=service) for scope in scopes
    ):
        return identity
    held = any(identity.holds(scope) for scope in scopes)
    targeted = user is not None or group is not None or service is not None
    if held and not targeted and filtered:
        return identity
    if held and targeted and outside == 404:
        raise NotFound(NO_ACCESS)
    raise NotAuthorized(
        f"Action is not authorized with current scopes; requires any of [{', '.join(scopes)}]"
    )


def is_api(request: web.Request) -> bool:
    """Whether the path belongs to the REST API."""
    prefix = request.app[SETTINGS].hub_prefix + "api"
    return request.path == prefix or request.path.startswith(prefix + "/")


def to_login(request: web.Request) -> Exception:
    """What sends a visitor to the sign-in page and back here; a request that is no page load is refused."""
    if (
        request.method not in ("GET", "HEAD")
        or request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"
    ):
        return NotAuthenticated("You are signed out, or the page is too old.")
    here = quote(request.rel_url.raw_path_qs, safe="_.-~@/")
    found = web.HTTPFound("/", headers={"Cache-Control": "no-store"})
    # Set afterwards, for the constructor would unquote what is quoted for a reason.
    found.headers["Location"] = f"{request.app[SETTINGS].hub_prefix}login?next={here}"
    return found
