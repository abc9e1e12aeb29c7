"""The hub's answer below `user/…`: a request that reached no server because none runs there, or none yet."""

from __future__ import annotations

import asyncio

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import domains
from himalia_hub.errors import HimaliaError, NotAuthenticated, NotFound
from himalia_hub.groups import store as groups
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.pages.cards import card, never_started, tail_of
from himalia_hub.pages.paths import login_url, redirect, with_next
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import public
from himalia_hub.servers import store
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.servers.view import pending, quoted, ready, server_url
from himalia_hub.settings import HubSettings
from himalia_hub.users import store as users

NOT_RUNNING = 424
"""What JupyterLab understands as "the server is gone", without taking it for an error of the network."""
REDIRECTS_AT_MOST = 4


class RedirectLoop(HimaliaError):
    """The hub knows the server as ready, yet requests keep coming back to the hub."""

    code = "redirect-loop"


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "user/{user}/{path:.*}", not_running),
        web.get(prefix + "user/{user}", not_running),
        web.route("*", prefix + "user/{user}/{path:.*}", not_running_json),
    ]


@public(tokens=True)
async def not_running(request: web.Request) -> web.Response:
    """302 back when it is ready by now, 303 to its progress when it starts, 424 when it does not run.

    Public, because it tells programs and people apart before it asks who they are.
    """
    settings, identity = request.app[SETTINGS], request.get(IDENTITY)
    username, original = request.match_info["user"], _original(request)
    if identity is None:
        if _by_program(request):
            raise NotAuthenticated
        return redirect(login_url(request, original))
    async with request.app[DB].read() as db:
        known = await users.by_name(db, username)
        server, name = await _server(db, username, request.match_info.get("path", ""))
        member_of = await groups.of_name(db, username)
    if known is None or not identity.allows("access:servers", user=username, server=name):
        raise NotFound("There is no such server, or it is not yours to see.")
    if server is not None and ready(server):
        return await _back(request, original)
    if _by_program(request):
        return await not_running_json(request)
    busy = server is not None and (pending(server) is not None or server.phase is Phase.FAILED)
    if busy and identity.allows("servers", user=username, server=name):
        url = f"{settings.hub_prefix}spawn-pending/{tail_of(username, name)}"
        return redirect(with_next(url, original), status=303)
    shown = (
        card(server, username, settings, member_of)
        if server
        else never_started(username, settings, member_of)
    )
    return await page(request, "not_running.html", status=NOT_RUNNING, card=shown, after=original)


@public(tokens=True, xsrf_by_hand=True)
async def not_running_json(request: web.Request) -> web.Response:
    """424 JSON, the same for everybody and every name: programs learn that nothing answers there."""
    return not_running_there(request.app[SETTINGS], request.match_info["user"])


def not_running_there(settings: HubSettings, username: str) -> web.Response:
    """The 424 of this person's servers."""
    url = f"{settings.public_url.rstrip('/')}{settings.hub_prefix}spawn/{quoted(username)}"
    message = f"The server at {server_url(settings, username, '')} is not running. Start it at {url}"
    body = {"status": NOT_RUNNING, "message": message, "code": "not-running"}
    return web.json_response(body, status=NOT_RUNNING, headers={"Cache-Control": "no-store"})


async def _server(db: AsyncSession, username: str, path: str) -> tuple[Server | None, str]:
    """The server an address means: a named one if its first part is the name of one, else the default one."""
    first = path.partition("/")[0]
    if first and (named := await store.find(db, username, first)) is not None:
        return named, first
    return await store.find(db, username, ""), ""


async def _back(request: web.Request, original: str) -> web.Response:
    """302 to the server. Its route may lag behind its row: each return waits longer, up to a limit."""
    settings, count = request.app[SETTINGS], _count(request)
    if count >= REDIRECTS_AT_MOST:
        raise RedirectLoop(
            "This server is running, but requests do not reach it.",
            remedy="Stop it on your home page and start it again.",
        )
    if count:
        await asyncio.sleep(min(2**count, 10))
    if settings.subdomain_host:  # a return is counted where it is seen: at the person's host
        return redirect(domains.person_origin(settings, request.match_info["user"]) + original)
    return redirect(counted(original, request))


def counted(address: str, request: web.Request) -> str:
    """The address, with one return from the server more than this request says."""
    path, _, query = address.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith("redirects=")]
    return f"{path}?{'&'.join([*kept, f'redirects={_count(request) + 1}'])}"


def _count(request: web.Request) -> int:
    given = request.query.get("redirects", "0")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 3 else 0


def _original(request: web.Request) -> str:
    """The address on the server that was asked for, as it was spelled."""
    settings = request.app[SETTINGS]
    _, _, rest = request.rel_url.raw_path.partition("/user/")
    spelled = f"{settings.base_url}user/{rest}" if "/" in rest else f"{settings.base_url}user/{rest}/"
    query = request.rel_url.raw_query_string
    return f"{spelled}?{query}" if query else spelled


def _by_program(request: web.Request) -> bool:
    """A script asks, not a person: it wants JSON, speaks to an API path, or opens a WebSocket."""
    return is_program(request, request.match_info.get("path", ""))


def is_program(request: web.Request, path: str) -> bool:
    """The same for a path below `user/NAME/`, or a service's."""
    accept = request.headers.get("Accept", "")
    wants_json = "application/json" in accept and "text/html" not in accept
    return wants_json or "api" in path.split("/") or "Upgrade" in request.headers
