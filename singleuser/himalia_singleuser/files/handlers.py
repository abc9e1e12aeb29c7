"""`files/` gives raw bytes, `view/` an HTML file in a sandboxed frame, `api/resolvePath` finds paths."""

from __future__ import annotations

import asyncio
import html
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from himalia_singleuser.answers import flag, json_answer, page, url_of
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.contents import atomic, outputs
from himalia_singleuser.contents.handlers import CONTENTS
from himalia_singleuser.contents.store import guess_type
from himalia_singleuser.errors import BadRequest, Forbidden, NotFound
from himalia_singleuser.files.send import FileAnswer, send_file
from himalia_singleuser.keys import SETTINGS
from himalia_singleuser.middleware import content_policy


@authenticated
async def get_file(request: web.Request) -> web.StreamResponse:
    """The bytes; scripts in them run in a sandbox that has nothing of this server's."""
    path, file = request.app[CONTENTS].root.shown(request.match_info["path"])
    if file.is_dir():
        raise Forbidden(f"{path} is a directory: ask for the files in it")
    if path.endswith(".ipynb") and not flag(request, "outputs", default=True):
        return await _without_outputs(request, path, file)
    kind = guess_type(path) or "application/octet-stream"
    if kind == "text/plain":
        kind = "text/plain; charset=UTF-8"
    headers = {"Content-Security-Policy": content_policy(request, sandbox=True)}
    if "v" not in request.query:
        headers[hdrs.CACHE_CONTROL] = "no-cache"
    if request.query.get("download") in {"1", "true"} or path.endswith(".ipynb"):
        headers[hdrs.CONTENT_DISPOSITION] = _as_download(path)
    return await send_file(request, FileAnswer(file, kind, headers))


def _as_download(path: str) -> str:
    return f"attachment; filename*=utf-8''{quote(path.rpartition('/')[2], safe='')}"


async def _without_outputs(request: web.Request, path: str, file: Path) -> web.Response:
    if not file.is_file():
        raise NotFound(f"{path!r} does not exist")
    try:
        raw = await asyncio.to_thread(file.read_bytes)
    except OSError as error:
        raise atomic.explain(error, path) from None
    headers = {
        hdrs.CACHE_CONTROL: "no-cache",
        hdrs.CONTENT_DISPOSITION: _as_download(path),
        hdrs.CONTENT_TYPE: str(guess_type(path)),
        "Content-Security-Policy": content_policy(request, sandbox=True),
    }
    return web.Response(body=await asyncio.to_thread(outputs.cleared, raw, path), headers=headers)


@authenticated
async def view(request: web.Request) -> web.Response:
    """A page around a file, for HTML that people made."""
    path, file = request.app[CONTENTS].root.shown(request.match_info["path"])
    if not file.is_file():
        raise NotFound(f"{path!r} does not exist")
    source = html.escape(url_of(request, "files", path))
    frame = (
        f'<iframe src="{source}" sandbox="allow-scripts" style="position:fixed;inset:0;width:100%;'
        'height:100%;border:0;background:#fff"></iframe>'
    )
    return page(path.rpartition("/")[2], frame)


@authenticated
async def resolve_path(request: web.Request) -> web.Response:
    """Which file of the browser a path in a traceback means: in the root, or where the kernel works."""
    wanted = request.query.get("path")
    if not wanted:
        raise BadRequest("Missing argument: path")
    resolved, unresolved = await asyncio.to_thread(_resolve, request, wanted)
    answer: dict[str, Any] = {"resolved": resolved}
    if unresolved:
        answer["unresolved"] = unresolved
    return json_answer(answer)


def _resolve(request: web.Request, wanted: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    root = request.app[CONTENTS].root
    wanted = wanted.removeprefix("file://")
    place = Path(os.path.expanduser(wanted)) if wanted.startswith(("/", "~")) else root.folder / wanted
    missing = [{"scope": "server", "reason": "not found"}]
    if "\0" in wanted:
        return [], missing
    try:
        api_path = root.api_path(place)
        if api_path is None or root.is_hidden(api_path) or not place.exists():
            return [], missing
    except (OSError, RuntimeError):
        return [], missing
    return [{"scope": "server", "path": api_path}], []


@authenticated
async def to_default_page(request: web.Request) -> web.Response:
    """The base URL leads to the front end."""
    target = request.app[SETTINGS].default_url.lstrip("/")
    location = url_of(request, "") + quote(target, safe="/?=&#%@")
    if request.rel_url.raw_query_string:
        location += f"?{request.rel_url.raw_query_string}"
    return web.Response(status=302, headers={hdrs.LOCATION: location})


routes = [
    web.get("/", to_default_page),
    web.get("/files/{path:.+}", get_file),
    web.get("/view/{path:.+}", view, allow_head=False),
    web.get("/api/resolvePath", resolve_path, allow_head=False),
]
