"""What happens to a server right now: its steps while it starts, why it failed, or that it is going."""

from __future__ import annotations

from aiohttp import web

from himalia_hub import logs
from himalia_hub.auth.xsrf import xsrf_token
from himalia_hub.errors import NotFound
from himalia_hub.groups import store as groups
from himalia_hub.keys import DB, MEMO, SETTINGS, SPAWNER
from himalia_hub.pages import wish
from himalia_hub.pages.cards import Card, card, failure_of, never_started, tail_of
from himalia_hub.pages.paths import redirect, safe_next, with_next
from himalia_hub.pages.render import page, wants_fragment
from himalia_hub.pages.spawn import target
from himalia_hub.rbac.guard import signed_in
from himalia_hub.servers import queue, store
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.servers.view import api_path, pending, quoted, ready, server_url
from himalia_spawner.errors import SpawnError

LOG_LINES = 20
REFRESH_S = 2
"""How often a browser without JavaScript asks again."""


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    table: list[web.RouteDef] = []
    for path in ("spawn-pending/{user}", "spawn-pending/{user}/{server}"):
        table += [web.get(prefix + path, spawn_pending), web.post(prefix + path, cancel)]
    return table


@signed_in
async def spawn_pending(request: web.Request) -> web.Response:
    """302 when it is ready, 500 with the cause when it failed, else what is under way. Starts nothing.

    For our script 200 with the last lines of a starting server's log, and nothing once it is not starting.
    """
    username, name = target(request)
    settings, after = request.app[SETTINGS], safe_next(request)
    async with request.app[DB].read() as db:
        server = await store.find(db, username, name)
        member_of = await groups.of_name(db, username)
        events = await store.events_after(db, server.id, server.generation, 0) if server else []
    if server is None:
        if name:
            raise NotFound(f"There is no server named “{name[:64]}” here.")
        shown = never_started(username, settings, member_of)
        return await page(request, "not_running.html", card=shown, after=after)
    if wants_fragment(request):
        rev, starting = f"{server.generation}-{len(events)}", pending(server) == "spawn"
        log = await _log(request, server) if starting else []
        return await page(request, "fragment_starting.html", moving=starting, log=log, rev=rev)
    if ready(server):
        return redirect(after or server_url(settings, username, name))
    shown = card(server, username, settings, member_of)
    if pending(server) is not None:
        return await page(
            request,
            "stop_pending.html" if pending(server) == "stop" else "spawn_pending.html",
            moving=True,
            log=await _log(request, server),
            card=shown,
            after=after,
            events=events,
            progress=max((event.progress for event in events), default=0),
            progress_url=f"{api_path(settings, username, name)}/progress?_xsrf={quoted(xsrf_token(request))}",
            refresh_s=REFRESH_S,
            place=await _place(request, server),
            rev=f"{server.generation}-{len(events)}",
        )
    if server.phase is Phase.FAILED:
        return await _failed(request, server, shown, after)
    return await page(request, "not_running.html", card=shown, after=after)


async def _log(request: web.Request, server: Server) -> list[str]:
    """What a server has written so far, without what looks like a secret; nothing where this hub cannot read it, or
    while the log is still that of the life before.
    """
    spawner = request.app.get(SPAWNER)
    if server.phase is not Phase.STARTING or spawner is None or spawner.node not in (None, server.node):
        return []
    try:
        return [logs.mask_text(line) for line in await spawner.logs(server.backend_name, LOG_LINES)]
    except SpawnError:
        return []


async def _place(request: web.Request, server: Server) -> str:
    if server.queued_at is None:
        return ""
    place = (await queue.places(request.app[MEMO], request.app[SETTINGS].servers)).get(server.id)
    return queue.words(place) if place else ""


@signed_in
async def cancel(request: web.Request) -> web.Response:
    """Stop this server and no other; 303 back, where the page says so."""
    username, name = target(request)
    await wish.stop(request, username, name)
    url = request.app[SETTINGS].hub_prefix + "spawn-pending/" + tail_of(username, name)
    return redirect(with_next(url, safe_next(request)), status=303)


async def _failed(request: web.Request, server: Server, shown: Card, after: str | None) -> web.Response:
    return await page(
        request,
        "spawn_failed.html",
        status=500,
        card=shown,
        after=after,
        failure=failure_of(server.failure) or failure_of({"cause": "failed"}),
    )
