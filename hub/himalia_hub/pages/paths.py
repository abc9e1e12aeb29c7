"""Small things about addresses that several pages need."""

from __future__ import annotations

from aiohttp import web

from himalia_hub.auth import next_url, origin
from himalia_hub.keys import SETTINGS
from himalia_hub.servers.view import quoted


def redirect(location: str, *, status: int = 302) -> web.Response:
    """Send the browser elsewhere: 303 after a form, 302 for a page, 301 for a better address."""
    return web.Response(status=status, headers={"Location": location, "Cache-Control": "no-store"})


def login_url(request: web.Request, after: str) -> str:
    """The sign-in page that leads back to `after`."""
    return f"{request.app[SETTINGS].hub_prefix}login?next={quoted(after)}"


def with_next(url: str, after: str | None) -> str:
    """`url`, remembering where to go afterwards."""
    return f"{url}?next={quoted(after)}" if after else url


def with_query(path: str, request: web.Request) -> str:
    """`path` with the query of this request, as it was spelled."""
    query = request.rel_url.raw_query_string
    return f"{path}?{query}" if query else path


def safe_next(request: web.Request, given: str | None = None) -> str | None:
    """Where the `next` of this request leads, or the one `given` in a form, if that is on this site; else None."""
    wanted = next_url.safe_next(
        given or request.query.get("next"),
        own_hosts=origin.own_hosts(request),
        base_url=request.app[SETTINGS].base_url,
        default="",
    )
    return wanted or None
