"""Jupyter Notebook 7 as its wheel brings it: one page for each kind of document, over JupyterLab's own API."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of, url_of
from himalia_singleuser.auth_marks import authenticated, public
from himalia_singleuser.contents.handlers import CONTENTS
from himalia_singleuser.contents.store import Wanted
from himalia_singleuser.errors import NotFound
from himalia_singleuser.frontend.assets import send_asset
from himalia_singleuser.frontend.page_config import notebook_config
from himalia_singleuser.frontend.pages import expect_notebook, send_page, template
from himalia_singleuser.frontend.places import LAB, notebook_package


@authenticated
async def tree(request: web.Request) -> web.StreamResponse:
    """A folder; a notebook or file instead leads to where that is shown."""
    kind, path = await _what(request)
    if kind == "directory":
        return await _page(request, "tree", tree=path)
    return _redirect(request, "notebooks" if kind == "notebook" else "files", path)


@authenticated
async def notebook(request: web.Request) -> web.StreamResponse:
    """A notebook, there or not: the page says so itself. A folder leads to its listing."""
    try:
        kind, path = await _what(request)
    except NotFound:
        kind, path = "", request.match_info["path"].strip("/")
    if kind == "directory":
        return _redirect(request, "tree", path)
    return await _page(request, "notebooks")


@authenticated
async def document(request: web.Request) -> web.StreamResponse:
    """A text file, a console or a terminal: the page reads its name from its own address."""
    return await _page(request, request.match_info["kind"])


@authenticated
async def custom_css(request: web.Request) -> web.StreamResponse:
    """The person's own style sheet, or the empty one of the wheel."""
    own = request.app[LAB].settings.config_dir / "custom"
    return await send_asset(request, [own, _folder() / "custom"], "custom.css")


@public
async def static(request: web.Request) -> web.StreamResponse:
    """The names hold a hash of the content, or the address a `?v=` that does."""
    path = request.match_info["path"]
    return await send_asset(request, [_folder() / "static"], path, immutable=True)


async def _what(request: web.Request) -> tuple[str, str]:
    """Kind and cleaned path of what the address names; NotFound when there is nothing that may be seen."""
    wanted = Wanted(content=False)
    model = await asyncio.to_thread(request.app[CONTENTS].get, request.match_info["path"], wanted)
    return model["type"], model["path"]


def _redirect(request: web.Request, kind: str, path: str) -> web.Response:
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    return web.Response(status=302, headers={hdrs.LOCATION: url_of(request, kind, path) + query})


async def _page(request: web.Request, kind: str, *, tree: str = "") -> web.Response:
    lab, folder = request.app[LAB], _folder()
    make = partial(notebook_config, lab, folder, kind=kind, tree=tree)
    text = await asyncio.to_thread(_render, folder / "templates" / f"{kind}.html", make, base_of(request))
    if kind in {"tree", "notebooks"}:
        expect_notebook(request, request.match_info["path"])
    return send_page(request, text)


def _render(file: Any, make: partial[dict[str, Any]], base_url: str) -> str:
    rendered = template(file).render(page_config=make(), base_url=base_url, ws_url="", custom_css=True)
    return str(rendered)


def _folder() -> Any:
    folder = notebook_package()
    if folder is None:
        raise NotFound("Jupyter Notebook is not installed beside this server")
    return folder


routes = [
    web.get("/tree{path:(?:/.*)?}", tree),
    web.get("/notebooks{path:(?:/.*)?}", notebook),
    web.get("/{kind:edit}{path:(?:/.*)?}", document),
    web.get("/{kind:consoles|terminals}/{path:.+}", document),
    web.get("/custom/custom.css", custom_css),
    web.get("/static/notebook/{path:.+}", static),
]
