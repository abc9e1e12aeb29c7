"""The pages of the front ends and their assets."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of
from himalia_singleuser.auth_marks import authenticated, public
from himalia_singleuser.errors import NotFound
from himalia_singleuser.frontend import api, notebook
from himalia_singleuser.frontend.assets import CACHES, Caches, find_asset, send_asset
from himalia_singleuser.frontend.page_config import page_config
from himalia_singleuser.frontend.pages import expect_notebook, send_page, template
from himalia_singleuser.frontend.places import LAB, Lab, server_assets
from himalia_singleuser.keys import SETTINGS

PAGE = re.compile(r"(?:/workspaces/(?P<workspace>[a-zA-Z0-9_-]+))?(?:/tree(?:/(?P<tree>.*))?)?")
HASHED = re.compile(r"\.[0-9a-f]{16,}\.[a-z0-9]+$")
LOCAL_URL = re.compile(r"""url\((['"]?)(?![a-zA-Z][a-zA-Z0-9+.-]*:|/|#)([^'")]+)\1\)""")


@authenticated
async def lab_page(request: web.Request) -> web.Response:
    """`lab`, `doc`, a workspace, a file in it; any other path below shows the same page, which says so."""
    mode = "multiple-document" if request.match_info["mode"] == "lab" else "single-document"
    match = PAGE.fullmatch(request.match_info["rest"])
    workspace = (match and match["workspace"]) or "default"
    tree = (match and match["tree"]) or ""
    lab = request.app[LAB]
    config = await asyncio.to_thread(page_config, lab, mode=mode, workspace=workspace, tree=tree)
    if match is None:
        config["notFoundUrl"] = request.rel_url.raw_path
    text = await asyncio.to_thread(_render, lab, config, base_of(request))
    expect_notebook(request, tree)
    return send_page(request, text)


def _render(lab: Lab, config: dict[str, Any], base_url: str) -> str:
    text: str = template(lab.static / "index.html").render(
        page_config=config, base_url=base_url, ws_url="", custom_css=False
    )
    return text


@public
async def lab_static(request: web.Request) -> web.StreamResponse:
    """The names hold a hash of the content, so they may be cached for ever."""
    folder = request.app[LAB].static
    return await send_asset(request, [folder], request.match_info["path"], immutable=True)


@public
async def server_static(request: web.Request) -> web.StreamResponse:
    """Icons, logo and styles that pages expect of any Jupyter server."""
    folder = server_assets()
    if folder is None:
        raise NotFound
    kind = request.match_info.get("kind", "favicons")
    return await send_asset(request, [folder / kind], request.match_info.get("path", "favicon.ico"))


@public
async def extension_file(request: web.Request) -> web.StreamResponse:
    """A file of a prebuilt extension. Bundlers name files after their content: such a name says it all for ever."""
    path = request.match_info["path"]
    folders = request.app[LAB].extension_folders
    return await send_asset(request, folders, path, immutable=bool(HASHED.search(path)))


@public
async def theme_file(request: web.Request) -> web.StreamResponse:
    """A file of a theme; in style sheets, local URLs are made to point back here."""
    lab, path = request.app[LAB], request.match_info["path"]
    folders = await asyncio.to_thread(_theme_folders, lab)
    if not path.endswith(".css"):
        return await send_asset(request, folders, path)
    text = await asyncio.to_thread(find_asset(folders, path).read_text, "utf-8")
    here = f"{base_of(request)}lab/api/themes/{path.rpartition('/')[0]}/"
    text = LOCAL_URL.sub(lambda match: f"url({match[1]}{here}{match[2]}{match[1]})", text)
    answer = web.Response(text=text, content_type="text/css", headers={hdrs.CACHE_CONTROL: "no-cache"})
    answer.enable_compression()
    return answer


def _theme_folders(lab: Lab) -> list[Path]:
    found = []
    for folder in lab.extension_folders:
        found += [*folder.glob("[!@]*/themes"), *folder.glob("@*/*/themes")]
    return [*found, lab.folder / "themes"]


async def find_lab(app: web.Application) -> AsyncIterator[None]:
    """Where JupyterLab is; read when the first page needs it."""
    settings = app[SETTINGS]
    app[LAB] = Lab(settings)
    shared = settings.environ.get("HIMALIA_STATIC_CACHE")
    caches = [Path(shared)] if shared and os.path.isdir(shared) else []
    app[CACHES] = Caches([*caches, settings.cache_dir / "static"])
    yield


routes = [
    *api.routes,
    *notebook.routes,
    web.get("/lab/extensions/{path:.+}", extension_file),
    web.get("/lab/api/themes/{path:.+}", theme_file),
    web.get("/static/lab/{path:.+}", lab_static),
    web.get("/static/{kind:favicons|logo|style}/{path:.+}", server_static),
    web.get("/favicon.ico", server_static),
    web.get("/{mode:lab|doc}{rest:(?:/(?!api/|extensions/).+)?}", lab_page),
]
lifetimes = [find_lab]
