"""Out means out: what has to happen besides deleting the rows of a sign-in, of a token, or of a right."""

from __future__ import annotations

import asyncio
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

AGAIN_S = 3.5
"""Official servers go by what they were told for 3 s at best: who came back at once by that is cut once more then."""
_again: set[asyncio.Task[None]] = set()


async def cut(app: web.Application, ended: Iterable[Ended], *, route: str | None = None) -> bool:
    """Have the proxy cut the open WebSockets of these browser sign-ins and tokens, all or those on one route. Called
    after their rows are gone.

    At hosts of their own the proxy sees no cookie of a sign-in. There everybody's WebSockets are cut on the routes of
    the servers and services that knew these; who may still be there comes back by themselves. False when the proxy
    cannot be asked, which is logged: the rows are gone in any case, and nothing new opens.
    """
    known_at: set[str] = set()
    tokens: set[str] = set()
    done = True
    for each in ended:
        if each.session_id:
            done &= await _cut(app, login=each.session_id, route=route)
        known_at |= each.clients
        tokens |= each.tokens
    if tokens:
        done &= await _cut(app, tokens=tokens, route=route)
    if app[SETTINGS].subdomain_host:
        for beside in sorted(await routes_of(app, known_at)):
            if route in (None, beside):
                done &= await _cut(app, route=beside)
    return done


async def cut_people(app: web.Application, user_ids: Collection[int], *, route: str | None = None) -> bool:
    """The same for every sign-in and token of these people, who stay signed in and have lost a right."""
    async with app[DB].read() as db:
        theirs = await accounts.reach_of(db, user_ids)
    return await cut(app, theirs, route=route)


async def cut_route(app: web.Application, route: str) -> bool:
    """Cut every open WebSocket on a route. Who may still be there comes back by themselves."""
    return await _cut(app, route=route)


async def routes_of(app: web.Application, client_ids: Iterable[str]) -> set[str]:
    """Where the servers and services of these ids, which can be ambiguous, are routed."""
    settings = app[SETTINGS]
    async with app[DB].read() as db:
        found = [each for name in client_ids for each in await clients(db, name, settings)]
    return {
        servers.routespec(settings, each.username, each.server_name)
        if isinstance(each, ServerClient)
        else services.routespec(settings, each.service_name)
        for each in found
    }


async def _cut(
    app: web.Application,
    *,
    login: str | None = None,
    route: str | None = None,
    tokens: Collection[str] = (),
    again: bool = True,
) -> bool:
    proxy = app.get(PROXY)
    if not isinstance(proxy, CutsTunnels):
        return True
    try:
        count = await proxy.cut(login=login, route=route, tokens=tokens)
    except ProxyError as error:
        log.warning("tunnels.not_cut", cause=str(error))
        return False
    log.info("tunnels.cut", count=count)
    if count and again and (login or tokens):

        async def once_more() -> None:
            await asyncio.sleep(AGAIN_S)
            await _cut(app, login=login, route=route, tokens=tokens, again=False)

        task = asyncio.get_running_loop().create_task(once_more())
        _again.add(task)
        task.add_done_callback(_again.discard)
    return True
