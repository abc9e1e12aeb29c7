"""Style, script and pictures: the address carries the hash of the content, so caches keep them for good."""

from __future__ import annotations

import functools
import gzip
import hashlib
import mimetypes
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from himalia_hub.errors import NotFound
from himalia_hub.rbac.guard import public

STATIC = Path(__file__).parent.parent / "static"
FOREVER = "public, max-age=31536000, immutable"
LOGO = "logo.svg"
PACKED = ("text/css", "text/javascript", "application/javascript", "image/svg+xml")
"""Worth packing. Pages are not, but for the list (`kept.py`): their size would tell of the secrets beside what a
visitor typed (BREACH).
"""


@functools.cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Every asset with its hash. A closed list: no path of a request ever reaches the file system."""
    found = {}
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            body = path.read_bytes()
            found[path.relative_to(STATIC).as_posix()] = (body, hashlib.sha256(body).hexdigest()[:12])
    return found


@functools.cache
def _packed(name: str) -> bytes:
    return gzip.compress(_files()[name][0], mtime=0)


def warm_up() -> None:
    """Read and pack everything, which else the first who ask wait for."""
    for name in _files():
        if mimetypes.guess_type(name)[0] in PACKED:
            _packed(name)


def static_url(hub_prefix: str, name: str) -> str:
    """Address of an asset, with its hash; KeyError for one that does not exist is a bug in a template."""
    return f"{hub_prefix}static/{quote(name)}?v={_files()[name][1]}"


@public
async def asset(request: web.Request) -> web.Response:
    """200 the file; for ever when the address carries its hash, else to be asked for each time."""
    return answer(request, request.match_info["path"])


@public
async def logo(request: web.Request) -> web.Response:
    """200 the mark and name, where single-user servers look for it."""
    return answer(request, LOGO)


def answer(request: web.Request, name: str) -> web.Response:
    """200 an asset, 304 when the browser has it; NotFound."""
    if name not in _files():
        raise NotFound("There is no such file.")
    body, digest = _files()[name]
    exact = request.query.get("v") == digest
    headers = {
        "Cache-Control": FOREVER if exact else "no-cache",
        "ETag": f'"{digest}"',
        "X-Content-Type-Options": "nosniff",
    }
    if f'"{digest}"' in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    charset = "utf-8" if kind.startswith("text/") else None
    headers["Vary"] = "Accept-Encoding"
    if kind in PACKED and "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        body = _packed(name)
    return web.Response(body=body, content_type=kind, charset=charset, headers=headers)


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "static/{path:.+}", asset),
        web.get(prefix + "logo", logo),
    ]
