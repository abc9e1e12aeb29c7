"""Pages of long lists: `offset`, `limit`, and JupyterHub's envelope for clients that ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from himalia_hub.auth import origin
from himalia_hub.errors import BadRequest

MEDIA_TYPE = "application/jupyterhub-pagination+json"
DEFAULT_LIMIT = 50
MAX_LIMIT = 200
LARGEST_OFFSET = 2**62


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for, and whether in an envelope."""

    offset: int
    limit: int
    enveloped: bool


def asked_page(request: web.Request) -> Page:
    """The page that the query and `Accept` ask for; BadRequest for what is not a number."""
    enveloped = MEDIA_TYPE in request.headers.get("Accept", "")
    offset = abs(_number(request, "offset", 0))
    limit = abs(_number(request, "limit", DEFAULT_LIMIT if enveloped else MAX_LIMIT))
    return Page(min(offset, LARGEST_OFFSET), max(1, min(limit, MAX_LIMIT)), enveloped)


def paged(request: web.Request, page: Page, items: Sequence[Any], total: int) -> web.Response:
    """The answer with one page of a list of `total`; the bare list unless the envelope was asked for."""
    return web.json_response(content(request, page, items, total))


def content(request: web.Request, page: Page, items: Sequence[Any], total: int) -> Any:
    """What `paged` sends."""
    if not page.enveloped:
        return list(items)
    after = page.offset + page.limit
    following = None
    if after < total:
        following = {"offset": after, "limit": page.limit, "url": _own_url(request, after, page.limit)}
    about = {"offset": page.offset, "limit": page.limit, "total": total, "next": following}
    return {"items": list(items), "_pagination": about}


def _own_url(request: web.Request, offset: int, limit: int) -> str:
    kept = [(key, value) for key, value in request.query.items() if key not in ("offset", "limit", "_xsrf")]
    query = urlencode([*kept, ("offset", offset), ("limit", limit)])
    return f"{origin.scheme(request)}://{request.host}{request.rel_url.raw_path}?{query}"


def _number(request: web.Request, key: str, default: int) -> int:
    text = request.query.get(key)
    if text is None:
        return default
    try:
        return int(text[:30])
    except ValueError:
        raise BadRequest(f"{key} is {text[:30]!r}; it must be a whole number") from None
