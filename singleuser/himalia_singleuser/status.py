"""The small API routes: version, status, identity, configuration sections, reports."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from himalia_singleuser.answers import iso, json_answer, json_body
from himalia_singleuser.auth.guard import remember
from himalia_singleuser.auth_marks import authenticated, public
from himalia_singleuser.contents import atomic
from himalia_singleuser.errors import BadRequest, NotFound
from himalia_singleuser.files.send import FileAnswer, send_file
from himalia_singleuser.keys import ACTIVITY, IDENTITY, KERNEL_COUNTS, SETTINGS, SHUTDOWN, Identity

log = structlog.get_logger(__name__)

SERVER_VERSION = "2.21.1"
"""The Jupyter Server release whose API this is: clients switch features by it."""

IDENTITY_FIELDS = ("username", "name", "display_name", "initials", "avatar_url", "color")
UPDATABLE = ("name", "display_name", "initials", "avatar_url", "color")
MOST_REPORTED = 4000


@public
async def version(request: web.Request) -> web.Response:
    """Also what a hub asks to learn whether this server is up."""
    return json_answer({"version": SERVER_VERSION})


@authenticated
async def status(request: web.Request) -> web.Response:
    """When it started, when somebody last worked, how much runs."""
    activity, counts = request.app[ACTIVITY], request.app.get(KERNEL_COUNTS)
    return json_answer(
        {
            "started": iso(activity.started),
            "last_activity": iso(activity.last),
            "kernels": counts.kernel_count() if counts else 0,
            "connections": counts.connection_count() if counts else 0,
        }
    )


def _identity_model(identity: Identity) -> dict[str, Any]:
    return {field: getattr(identity, field) for field in IDENTITY_FIELDS}


def _updatable(request: web.Request) -> tuple[str, ...]:
    # Behind a hub the hub says who somebody is.
    return () if request.app[SETTINGS].hub else UPDATABLE


@authenticated
async def me(request: web.Request) -> web.Response:
    """Who asks, and which of the asked permissions they have: all, or they would not be here."""
    asked = request.query.get("permissions")
    permissions: dict[str, Any] = {}
    if asked is not None:
        try:
            value = json.loads(asked)
        except ValueError:
            value = None
        if not isinstance(value, dict) or not all(isinstance(item, list) for item in value.values()):
            raise BadRequest(f"permissions must be a JSON object of lists of actions, not {asked!r}")
        permissions = value
    permissions["updatable_fields"] = list(_updatable(request))
    return json_answer({"identity": _identity_model(request[IDENTITY]), "permissions": permissions})


@authenticated
async def change_me(request: web.Request) -> web.Response:
    """A name of one's own choice; it is kept in the cookie."""
    changes = await json_body(request)
    if not changes:
        raise BadRequest("Give the fields to change as a JSON object")
    for field, value in changes.items():
        if field not in _updatable(request):
            raise BadRequest(f"Cannot update field {field!r}")
        if not isinstance(value, str) or len(value) > 200:
            raise BadRequest(f"{field} must be a text of at most 200 characters")
    identity = replace(request[IDENTITY], **changes)
    answer = json_answer({"status": "success", "identity": _identity_model(identity)})
    remember(request, identity)(answer)
    return answer


@authenticated
async def get_config(request: web.Request) -> web.Response:
    """A section, layered from the system's over the person's."""
    section = request.match_info["section"]
    return json_answer(await asyncio.to_thread(_load, request, section))


@authenticated
async def put_config(request: web.Request) -> web.Response:
    """Replace the person's section."""
    section, data = request.match_info["section"], await json_body(request) or {}
    await asyncio.to_thread(_store, request, section, data)
    return web.Response(status=204)


@authenticated
async def patch_config(request: web.Request) -> web.Response:
    """Merge into the person's section; null removes."""
    section, data = request.match_info["section"], await json_body(request) or {}
    own = await asyncio.to_thread(_read_object, _config_file(request, section))
    merge(own, data)
    await asyncio.to_thread(_store, request, section, own)
    return json_answer(await asyncio.to_thread(_load, request, section))


def _config_file(request: web.Request, section: str) -> Path:
    return request.app[SETTINGS].config_dir / "serverconfig" / f"{section}.json"


def _load(request: web.Request, section: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    own = request.app[SETTINGS].config_dir
    for folder in (*reversed(request.app[SETTINGS].config_path), own):
        place = folder / "serverconfig"
        for file in (*sorted((place / f"{section}.d").glob("*.json")), place / f"{section}.json"):
            merge(result, _read_object(file))
    return result


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("config.unreadable", file=str(file), error=str(error))
        return {}
    return value if isinstance(value, dict) else {}


def _store(request: web.Request, section: str, data: dict[str, Any]) -> None:
    file = _config_file(request, section)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise atomic.explain(error, file.name) from None
    atomic.write(file, json.dumps(data, indent=2).encode())


def merge(target: dict[str, Any], new: dict[str, Any]) -> None:
    """`new` into `target`, objects member by member, null removes."""
    for key, value in new.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            inner = target[key] if isinstance(target.get(key), dict) else {}
            merge(inner, value)
            target[key] = inner
        else:
            target[key] = value


@authenticated
async def spec(request: web.Request) -> web.StreamResponse:
    """The OpenAPI file of Jupyter Server, when that is installed (JupyterLab brings it)."""
    found = find_spec("jupyter_server")
    if found is None or not found.submodule_search_locations:
        raise NotFound("The specification is not installed")
    file = Path(found.submodule_search_locations[0]) / "services/api/api.yaml"
    return await send_file(request, FileAnswer(file, "text/x-yaml"))


@authenticated
async def csp_report(request: web.Request) -> web.Response:
    """What a browser refused on a page of ours: for the log."""
    report = (await request.content.read(MOST_REPORTED)).decode("utf-8", "replace")
    log.warning("csp.violated", report=re.sub(r"token=[^&\"\s]+", "token=...", report))
    return web.Response(status=204)


@authenticated
async def shutdown(request: web.Request) -> web.Response:
    """End this server and all that runs in it."""
    for end in request.app[SHUTDOWN]:
        end()
    return web.Response(status=200)


@public
async def robots(request: web.Request) -> web.Response:
    """Nothing here is for search engines."""
    return web.Response(text="User-agent: *\nDisallow: /\n")


SECTION = r"/api/config/{section:\w{1,100}}"

routes = [
    web.get("/api", version, allow_head=False),
    web.get("/api/status", status, allow_head=False),
    web.get("/api/me", me, allow_head=False),
    web.patch("/api/me", change_me),
    web.get(SECTION, get_config, allow_head=False),
    web.put(SECTION, put_config),
    web.patch(SECTION, patch_config),
    web.get("/api/spec.yaml", spec),
    web.post("/api/security/csp-report", csp_report),
    web.post("/api/shutdown", shutdown),
    web.get("/robots.txt", robots),
]
