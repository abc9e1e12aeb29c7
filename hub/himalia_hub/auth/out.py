"""Out means out: what has to happen besides deleting the rows of a sign-in, or of a right."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog
from aiohttp import web

from himalia_hub.auth import accounts
from himalia_hub.auth.accounts import Ended
from himalia_hub.keys import DB, PROXY, SETTINGS
from himalia_hub.oauth.provider import ServerClient
from himalia_hub.oauth.store import clients
from himalia_hub.servers import view as servers
from himalia_hub.services import view as services
from himalia_proxy.base import CutsTunnels, ProxyError

log = structlog.get_logger()


async def cut(request: web.Request, ended: Iterable[Ended], *, route: str | None = None) -> None:
    """Have the proxy cut the open WebSockets of these browser sign-ins, all or those on one route. Called after their
    rows are gone.

    At hosts of their own the proxy sees no cookie of a sign-in. There everybody's WebSockets are cut on the routes of
    the servers and services that knew these; who may still be there comes back by themselves. A proxy that cannot be
    asked is logged: the rows are gone in any case, and nothing new opens.
    """
    known_at: set[str] = set()
    for each in ended:
        await _cut(request, login=each.session_id, route=route)
        known_at |= each.clients
    if request.app[SETTINGS].subdomain_host:
        for beside in sorted(await _routes(request, known_at)):
            if route in (None, beside):
                await _cut(request, route=beside)


async def cut_people(request: web.Request, user_ids: Collection[int], *, route: str | None = None) -> None:
    """The same for every sign-in of these people, who stay signed in and have lost a right."""
    async with request.app[DB].read() as db:
        theirs = await accounts.reach_of(db, user_ids)
    await cut(request, theirs, route=route)


async def cut_route(request: web.Request, route: str) -> None:
    """Cut every open WebSocket on a route. Who may still be there comes back by themselves."""
    await _cut(request, route=route)


async def _routes(request: web.Request, client_ids: Iterable[str]) -> set[str]:
    """Where the servers and services of these ids, which can be ambiguous, are routed."""
    settings = request.app[SETTINGS]
    async with request.app[DB].read() as db:
        found = [each for name in client_ids for each in await clients(db, name, settings)]
    return {
        servers.routespec(settings, each.username, each.server_name)
        if isinstance(each, ServerClient)
        else services.routespec(settings, each.service_name)
        for each in found
    }


async def _cut(request: web.Request, *, login: str | None = None, route: str | None = None) -> None:
    proxy = request.app.get(PROXY)
    if not isinstance(proxy, CutsTunnels):
        return
    try:
        count = await proxy.cut(login=login, route=route)
    except ProxyError as error:
        log.warning("tunnels.not_cut", cause=str(error))
    else:
        log.info("tunnels.cut", count=count)
