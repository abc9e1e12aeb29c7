"""Requests in, answers out: the few shapes that all routes share."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from aiohttp import web

from himalia_singleuser.errors import BadRequest, TooLarge
from himalia_singleuser.keys import SETTINGS


def json_answer(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`data` as JSON; the middleware adds the ETag of GET answers."""
    # Half a surrogate pair has no UTF-8; in JSON it is written as the escape that this handler makes of it.
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def whole_body(request: web.Request) -> bytes:
    """The body. TooLarge, with what to do, before a byte is read where the length says so, and not a gigabyte later."""
    most = request.client_max_size
    try:
        if (request.content_length or 0) <= most:
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        pass
    raise TooLarge(
        f"A request may have {most // 2**20} MB; a larger file is sent in chunks, or by a terminal"
    )


async def json_body(request: web.Request) -> dict[str, Any] | None:
    """The body as a JSON object, None when it is empty; BadRequest for anything else."""
    raw = await whole_body(request)
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
    # A listing asks this ten thousand times: the moment is UTC already, and its text ends with +00:00.
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


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
<style>:root{{color-scheme:light dark;--bg:#f6f5f1;--surface:#fff;--ink:#1d2226;--muted:#586169;--edge:#858b91;
--line:#dedbd2;--accent:#0b6670;--on:#fff;--bad:#9c2018}}@media(prefers-color-scheme:dark){{:root{{--bg:#14181b;
--surface:#1c2226;--ink:#e7eaeb;--muted:#a4afb7;--edge:#7b868e;--line:#323b41;--accent:#74cbd4;--on:#06272b;
--bad:#ffa398}}}}body{{font:100%/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;margin:0;color:var(--ink);
background:var(--bg);overflow-wrap:anywhere}}main{{max-width:24rem;margin:12vh auto;padding:1.5rem 2rem 1rem;
background:var(--surface);border:1px solid var(--line);border-radius:10px}}h1{{font-size:1.5rem;line-height:1.2;
margin:0 0 1rem}}a{{color:var(--accent)}}label{{display:block}}input,button{{font:inherit;width:100%;
box-sizing:border-box;padding:.5rem .7rem;margin:.25rem 0 .75rem;border:1px solid var(--edge);border-radius:6px}}
input{{background:var(--bg);color:inherit}}button{{background:var(--accent);color:var(--on);border:0;
font-weight:600;cursor:pointer}}:focus-visible{{outline:3px solid var(--accent);outline-offset:2px}}
.hint{{color:var(--muted);font-size:.875rem}}.error{{color:var(--bad)}}</style></head>
<body><main><h1>{title}</h1>{body}</main></body></html>
"""


def page(
    title: str, body: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A small page of our own. `title` is escaped here, `body` is HTML already."""
    text = PAGE.format(title=html.escape(title), body=body)
    return web.Response(text=text, status=status, headers=headers, content_type="text/html")


def wants_json(request: web.Request) -> bool:
    """Whether errors of this path are JSON: what programs ask, the API of the server and that of its front ends."""
    path = request.path.removeprefix(request.app[SETTINGS].base_url).lstrip("/")
    return path.startswith(("api/", "lab/api/", "lsp/", "nbconvert/")) or path in {"api", "metrics"}
