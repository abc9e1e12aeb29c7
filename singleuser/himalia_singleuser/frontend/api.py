"""`lab/api/*`: settings, layouts, languages, licences, and what is asked but not offered here."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import hdrs, web

from himalia_singleuser.answers import base_of, json_answer, json_body, whole_body
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.errors import BadRequest, Forbidden
from himalia_singleuser.frontend import licenses, settings_store, translations, workspaces
from himalia_singleuser.frontend.places import LAB

LISTINGS = "@jupyterlab/extensionmanager-extension/listings.json"


def _packed(data: Any) -> web.Response:
    """Every page load asks for these, at an address that no browser keeps: they are compressed."""
    answer = json_answer(data)
    answer.enable_compression()
    return answer


@authenticated
async def list_settings(request: web.Request) -> web.Response:
    """All settings with their schemas, or only their ids."""
    only_ids = request.query.get("ids_only") == "true"
    work = settings_store.ids if only_ids else settings_store.everything
    return _packed({"settings": await asyncio.to_thread(work, request.app[LAB])})


@authenticated
async def get_setting(request: web.Request) -> web.Response:
    """One plugin's."""
    plugin = request.match_info["plugin"]
    return _packed(await asyncio.to_thread(settings_store.one, request.app[LAB], plugin))


@authenticated
async def put_setting(request: web.Request) -> web.Response:
    """The person's changes of one plugin's."""
    body = await json_body(request) or {}
    plugin = request.match_info["plugin"]
    await asyncio.to_thread(settings_store.save, request.app[LAB], plugin, body.get("raw"))
    return web.Response(status=204)


@authenticated
async def list_workspaces(request: web.Request) -> web.Response:
    """All saved layouts."""
    return _packed(await asyncio.to_thread(workspaces.listing, request.app[LAB]))


@authenticated
async def get_workspace(request: web.Request) -> web.Response:
    """One layout."""
    return _packed(await asyncio.to_thread(workspaces.load, request.app[LAB], request.match_info["name"]))


@authenticated
async def put_workspace(request: web.Request) -> web.Response:
    """Keep a layout."""
    raw = await whole_body(request)
    await asyncio.to_thread(workspaces.save, request.app[LAB], request.match_info["name"], raw)
    return web.Response(status=204)


@authenticated
async def delete_workspace(request: web.Request) -> web.Response:
    """Forget a layout."""
    await asyncio.to_thread(workspaces.delete, request.app[LAB], request.match_info["name"])
    return web.Response(status=204)


@authenticated
async def list_languages(request: web.Request) -> web.Response:
    """What can be chosen."""
    return json_answer(await asyncio.to_thread(translations.listing))


@authenticated
async def get_language(request: web.Request) -> web.Response:
    """The texts of one language."""
    return _packed(await asyncio.to_thread(translations.load, request.match_info["locale"]))


@authenticated
async def get_licenses(request: web.Request) -> web.Response:
    """What the page is made of, for people (markdown) or programs."""
    query = request.query
    form = query.get("format", "json")
    found = await asyncio.to_thread(licenses.bundles, request.app[LAB], query.get("bundles", ".*"))
    text, kind = licenses.report(found, form, full_text=query.get("full_text", "true") not in {"0", "false"})
    headers = {}
    if query.get("download", "") not in {"", "0", "false"}:
        extension = {"markdown": "md"}.get(form, form)
        headers[hdrs.CONTENT_DISPOSITION] = f"attachment; filename=licenses.{extension}"
    answer = web.Response(text=text, content_type=kind, headers=headers)
    answer.enable_compression()
    return answer


@authenticated
async def get_listings(request: web.Request) -> web.Response:
    """Neither blocked nor allowed lists."""
    if request.match_info["path"] != LISTINGS:
        raise BadRequest(f"There is only the listing {LISTINGS}")
    names = ("blocked_extensions_uris", "allowed_extensions_uris", "blocked_extensions", "allowed_extensions")
    return json_answer({name: [] for name in names})


@authenticated
async def list_extensions(request: web.Request) -> web.Response:
    """Nothing is installed or removed from the page, so the manager has nothing to show."""
    only = f"<{base_of(request)}lab/api/extensions?page=1>; rel="
    return json_answer([], headers={hdrs.LINK: f'{only}"first", {only}"last"'})


@authenticated
async def list_plugins(request: web.Request) -> web.Response:
    """None is locked."""
    return json_answer({"lockRules": [], "allLocked": False})


@authenticated
async def refuse_install(request: web.Request) -> web.Response:
    """The environment of this server belongs to the admin."""
    raise Forbidden("Extensions of this server are installed by its admin")


@authenticated
async def build_status(request: web.Request) -> web.Response:
    """Extensions are prebuilt: there is never anything to build."""
    return json_answer({"status": "stable", "message": ""})


@authenticated
async def build(request: web.Request) -> web.Response:
    """Done at once: nothing is built here."""
    return json_answer({})


@authenticated
async def stop_build(request: web.Request) -> web.Response:
    """None is under way."""
    return web.Response(status=204)


@authenticated
async def no_update(request: web.Request) -> web.Response:
    """Updates are the admin's."""
    return json_answer({"notification": None})


@authenticated
async def no_news(request: web.Request) -> web.Response:
    """Nobody on the internet is asked."""
    return json_answer({"news": []})


SETTING = "/lab/api/settings/{plugin:.+}"
WORKSPACE = "/lab/api/workspaces/{name:.+}"

routes = [
    web.get("/lab/api/settings", list_settings, allow_head=False),
    web.get(SETTING, get_setting, allow_head=False),
    web.put(SETTING, put_setting),
    web.get("/lab/api/workspaces", list_workspaces, allow_head=False),
    web.get(WORKSPACE, get_workspace, allow_head=False),
    web.put(WORKSPACE, put_workspace),
    web.delete(WORKSPACE, delete_workspace),
    web.get("/lab/api/translations", list_languages, allow_head=False),
    web.get("/lab/api/translations/{locale}", get_language, allow_head=False),
    web.get("/lab/api/licenses", get_licenses, allow_head=False),
    web.get("/lab/api/licenses/", get_licenses, allow_head=False),
    web.get("/lab/api/listings/{path:.+}", get_listings, allow_head=False),
    web.get("/lab/api/extensions", list_extensions, allow_head=False),
    web.post("/lab/api/extensions", refuse_install),
    web.get("/lab/api/plugins", list_plugins, allow_head=False),
    web.post("/lab/api/plugins", refuse_install),
    web.get("/lab/api/build", build_status, allow_head=False),
    web.post("/lab/api/build", build),
    web.delete("/lab/api/build", stop_build),
    web.get("/lab/api/update", no_update, allow_head=False),
    web.get("/lab/api/news", no_news, allow_head=False),
]
