"""Requests in, answers out: the few shapes that all routes share."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from aiohttp import web

from himalia_singleuser.errors import BadRequest
from himalia_singleuser.keys import SETTINGS


def json_answer(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`data` as JSON; the middleware adds the ETag of GET answers."""
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def json_body(request: web.Request) -> dict[str, Any] | None:
    """The body as a JSON object, None when it is empty; BadRequest for anything else."""
    raw = await request.read()
    if not raw.strip():
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("Invalid JSON in body of request") from None
    if not isinstance(value, dict):
        raise BadRequest("The body of the request must be a JSON object")
    return value


def flag(request: web.Request, name: str, *, default: bool) -> bool:
    """A query argument that is 0 or 1."""
    value = request.query.get(name, "")
    if value not in {"", "0", "1"}:
        raise BadRequest(f"{name}={value!r} must be 0 or 1")
    return default if value == "" else value == "1"


def timestamp(seconds: float) -> str:
    """UTC with microseconds and Z; a time that no calendar holds becomes the epoch."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return iso(moment)


def iso(moment: datetime) -> str:
    """`2026-11-23T19:51:46.358191Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def url_of(request: web.Request, *parts: str) -> str:
    """A path under the base URL, each part escaped but for its slashes."""
    return base_of(request) + "/".join(quote(part.strip("/"), safe="/@~") for part in parts)


def base_of(request: web.Request) -> str:
    """The base URL, escaped as it appears in links and headers."""
    return quote(request.app[SETTINGS].base_url, safe="/@~")


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:34em;padding:0 1em;color:#222}}
h1{{font-size:1.4em}}a{{color:#0b62a4}}input,button{{font:inherit;padding:.4em .7em}}
.error{{color:#a3210b}}</style></head>
<body><main><h1>{title}</h1>{body}</main></body></html>
"""


def page(
    title: str, body: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A small page of our own. `title` is escaped here, `body` is HTML already."""
    text = PAGE.format(title=html.escape(title), body=body)
    return web.Response(text=text, status=status, headers=headers, content_type="text/html")


def wants_json(request: web.Request) -> bool:
    """Whether errors of this path are JSON: the API of the server and that of its front ends."""
    path = request.path.removeprefix(request.app[SETTINGS].base_url).lstrip("/")
    return path.startswith(("api/", "lab/api/", "lsp/", "nbconvert/")) or path == "api"
