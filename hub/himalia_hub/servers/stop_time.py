"""When a running server stops by itself, and putting that off: for pages, and for the server, which tells people."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.clock import iso
from himalia_hub.errors import NotFound
from himalia_hub.groups import store as groups
from himalia_hub.keys import DB, DOORBELL, IDENTITY, SETTINGS
from himalia_hub.rbac.guard import NO_ACCESS, scoped
from himalia_hub.schemas import Anything, takes
from himalia_hub.servers import cull, store
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import ready
from himalia_hub.settings import HubSettings
from himalia_hub.usage import hours


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    user = prefix + "api/users/{user}"
    return [
        route
        for path in (user + "/server", user + "/servers/{server}")
        for route in (web.get(path + "/stop-time", stop_time), web.post(path + "/keep-alive", keep_alive))
    ]


@scoped("users:activity", "read:servers")
async def stop_time(request: web.Request) -> web.Response:
    """200 when it stops by itself: `{stops_at, in_s, why, can_keep_alive}`; 404 unknown.

    `stops_at` is null when nothing stops it, and `in_s` the seconds until then by the hub's clock. `can_keep_alive`:
    use puts it off, and so does keep-alive.
    """
    async with request.app[DB].read() as db:
        server = await _find(db, request)
        return web.json_response(await _model(db, request.app[SETTINGS], server, request.match_info["user"]))


@scoped("users:activity")
@takes(Anything)
async def keep_alive(request: web.Request) -> web.Response:
    """200 the new stop time, `cull.keep_alive_s` or the idle limit from now, whichever is later; 404 unknown.

    Age is not put off, nor the end of somebody's hours, and a server that does not run is left alone.
    """
    async with request.app[DB].read() as db:
        await _find(db, request)
    username = request.match_info["user"]
    server = await put_off(request.app, username, request.match_info.get("server", ""))
    async with request.app[DB].read() as db:
        return web.json_response(await _model(db, request.app[SETTINGS], server, username))


async def put_off(app: web.Application, username: str, name: str) -> Server:
    """Keep a running server alive for a while, though nobody uses it; NotFound when there is none."""
    async with app[DB].begin() as db:
        server = await store.find(db, username, name)
        if server is None:
            raise NotFound(f"There is no server named “{name[:64]}” here.")
        if ready(server):
            member_of = await groups.of_user(db, server.user_id)
            cull.keep_alive(server, username, member_of, app[SETTINGS], now=clock.now())
    app[DOORBELL].tell(server.id)
    return server


async def _find(db: AsyncSession, request: web.Request) -> Server:
    """The server of the path. The token of a server is good for that one only."""
    username, name = request.match_info["user"], request.match_info.get("server", "")
    server, identity = await store.find(db, username, name), request[IDENTITY]
    token = identity.token if identity else None
    if server is None or (token is not None and token.server_id not in (None, server.id)):
        raise NotFound(NO_ACCESS)
    return server


async def _model(db: AsyncSession, settings: HubSettings, server: Server, username: str) -> dict[str, Any]:
    used_up = await hours.ends_for(db, settings, server.user_id, now=clock.now())
    due = cull.ending_of(server, username, await groups.of_user(db, server.user_id), settings, used_up)
    return {
        "stops_at": iso(due.at) if due else None,
        "in_s": round((due.at - clock.now()).total_seconds(), 1) if due else None,
        "why": due.why if due else "",
        "can_keep_alive": cull.can_be_kept(server, due, settings),
    }
