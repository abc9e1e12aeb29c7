"""Out means out: what has to happen besides deleting the rows of a sign-in, of a token, or of a right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable

import structlog
from aiohttp import web

from himalia_hub.auth import accounts
from himalia_hub.auth.accounts import Ended
from himalia_hub.keys import DB, PROXY, SETTINGS, TOGETHER
from himalia_hub.oauth.provider import ServerClient
from himalia_hub.oauth.store import clients
from himalia_hub.replicas.cuts import Cut
from himalia_hub.routes.feed import Feed
from himalia_hub.servers import view as servers
from himalia_hub.services import view as services
from himalia_proxy.base import CutsTunnels, ProxyError

log = structlog.get_logger()

AGAIN_S = 3.5
"""Official servers go by what they were told for 3 s at best: who came back at once by that is cut once more then."""
_again: set[asyncio.Task[None]] = set()


async def cut(
    app: web.Application, ended: Iterable[Ended], *, route: str | None = None, everywhere: bool = True
) -> bool:
    """Have the proxy cut the open WebSockets of these browser sign-ins and tokens, all or those on one route. Called
    after their rows are gone.

    At hosts of their own the proxy sees no cookie of a sign-in. There everybody's WebSockets are cut on the routes of
    the servers and services that knew these; who may still be there comes back by themselves. False when the proxy
    cannot be asked, which is logged: the rows are gone in any case, and nothing new opens. Proxies that follow another
    hub are told by that, unless it finds out by itself (not `everywhere`).
    """
    known_at: set[str] = set()
    tokens: set[str] = set()
    cuts = []
    for each in ended:
        if each.session_id:
            cuts.append(Cut(each.session_id, route))
        known_at |= each.clients
        tokens |= each.tokens
    if tokens:
        cuts.append(Cut(None, route, frozenset(tokens)))
    if app[SETTINGS].subdomain_host:
        beside = sorted(await routes_of(app, known_at))
        cuts += [Cut(route=one) for one in beside if route in (None, one)]
    return await _cut(app, *cuts, everywhere=everywhere)


async def cut_people(
    app: web.Application, user_ids: Collection[int], *, route: str | None = None, everywhere: bool = True
) -> bool:
    """The same for every sign-in and token of these people, who stay signed in and have lost a right."""
    async with app[DB].read() as db:
        theirs = await accounts.reach_of(db, user_ids)
    return await cut(app, theirs, route=route, everywhere=everywhere)


async def cut_route(app: web.Application, route: str) -> bool:
    """Cut every open WebSocket on a route. Who may still be there comes back by themselves."""
    return await _cut(app, Cut(route=route))


async def cut_for_another(app: web.Application, what: Cut, *, whole: bool) -> None:
    """What another hub had cut: by the proxies that follow this one; by the first one too where that is to be told
    again (`whole`).
    """
    proxy = app.get(PROXY)
    if isinstance(proxy, Feed) and not whole:
        await _done(proxy.cut_at_followers, what)
    elif isinstance(proxy, CutsTunnels):
        await _done(proxy.cut, what)


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


async def _cut(app: web.Application, *cuts: Cut, everywhere: bool = True) -> bool:
    others, proxy = app[TOGETHER].cuts if everywhere and TOGETHER in app else None, app.get(PROXY)
    if others is not None:
        await others.tell(*cuts)
    if not isinstance(proxy, CutsTunnels):
        return True
    return all([await _done(proxy.cut, what) for what in cuts])


async def _done(cut: Callable[..., Awaitable[int]], what: Cut, *, again: bool = True) -> bool:
    try:
        count = await cut(login=what.login, route=what.route, tokens=what.tokens)
    except ProxyError as error:
        log.warning("tunnels.not_cut", cause=str(error))
        return False
    log.info("tunnels.cut", count=count)
    if count and again and (what.login or what.tokens):

        async def once_more() -> None:
            await asyncio.sleep(AGAIN_S)
            await _done(cut, what, again=False)

        task = asyncio.get_running_loop().create_task(once_more())
        _again.add(task)
        task.add_done_callback(_again.discard)
    return True
