"""Addresses that lead elsewhere. What nothing answers at all becomes a 404 or 405 in the middleware."""

from __future__ import annotations

import re

from aiohttp import web

from himalia_hub.auth.begin import destination
from himalia_hub.keys import IDENTITY, SETTINGS
from himalia_hub.pages.errors import csp_report, error_for_proxy
from himalia_hub.pages.paths import login_url, redirect, with_query
from himalia_hub.pages.user_url import not_running_json
from himalia_hub.rbac.guard import public, signed_in
from himalia_hub.servers.view import quoted


def routes(prefix: str, base_url: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix, then those beside it."""
    beside = "/{path:(?!%s(?:/|$)).*}" % re.escape(prefix.strip("/"))  # noqa: UP031 -- full of braces
    return [
        web.get(prefix, index),
        web.get(prefix + "user-redirect", user_redirect),
        web.get(prefix + "user-redirect/{path:.*}", user_redirect),
        web.get(prefix + "error/{code}", error_for_proxy),
        web.post(prefix + "security/csp-report", csp_report),
        web.get(prefix.rstrip("/"), to_prefix),
        web.get(base_url + "{kind:user|services}/{name:[^/]+}", with_slash),
        web.route("*", base_url + "user/{user}/{path:.*}", beside_hub),
        web.get(beside, below_hub),
    ]


@public
async def index(request: web.Request) -> web.Response:
    """302 to `next` where the address has one of ours, else home; to sign in first."""
    onwards = destination(request)
    return redirect(onwards if request.get(IDENTITY) else login_url(request, onwards))


@signed_in
async def user_redirect(request: web.Request) -> web.Response:
    """302 to the same path on one's own server, started when it does not run: for links in courses."""
    settings, identity = request.app[SETTINGS], request[IDENTITY]
    assert identity is not None
    tail = request.rel_url.raw_path.partition("/user-redirect")[2].lstrip("/")
    wanted = with_query(f"{settings.base_url}user/{quoted(identity.name)}/{tail}", request)
    return redirect(f"{settings.hub_prefix}spawn?next={quoted(wanted)}")


@public
async def to_prefix(request: web.Request) -> web.Response:
    """301 from `/hub` to `/hub/`."""
    return redirect(with_query(request.app[SETTINGS].hub_prefix, request), status=301)


@public
async def with_slash(request: web.Request) -> web.Response:
    """301 from `/user/ann` to `/user/ann/`, so that relative links work."""
    spelled = "/" + request.rel_url.raw_path.lstrip("/\\")
    return redirect(with_query(spelled + "/", request), status=301)


@public(xsrf_by_hand=True)
async def beside_hub(request: web.Request) -> web.Response:
    """A request to a server that has no route: people are led to the hub's page for it, programs get 424.

    Programs are answered here, for few of them follow a redirect of anything but GET, and a WebSocket cannot.
    """
    reading = request.method in ("GET", "HEAD") and "Upgrade" not in request.headers
    return await below_hub(request) if reading else await not_running_json(request)


@public
async def below_hub(request: web.Request) -> web.Response:
    """302 from any path that no server answers to the hub's page for it, with the query."""
    settings = request.app[SETTINGS]
    rest = request.rel_url.raw_path.removeprefix(settings.base_url).lstrip("/\\")
    return redirect(with_query(settings.hub_prefix + rest, request))
