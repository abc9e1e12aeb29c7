"""Where a login may lead: only to paths of this server."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from aiohttp import web

from himalia_singleuser.answers import base_of
from himalia_singleuser.keys import SETTINGS


def safe_next(request: web.Request, wanted: str) -> str:
    """`wanted` if it is a path under the base URL, else the base URL."""
    base = base_of(request)
    plain = "\\" not in wanted and not any(ord(letter) < 33 for letter in wanted)
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return base
    inside = unquote(parts.path).startswith(request.app[SETTINGS].base_url)
    if plain and not parts.scheme and not parts.netloc and not wanted.startswith("//") and inside:
        return wanted
    return base
