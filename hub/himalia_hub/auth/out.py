"""Out means out: what has to happen besides deleting the rows of a sign-in, or of a right."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import sqlalchemy as sa
import structlog
from aiohttp import web

from himalia_hub.keys import DB, PROXY
from himalia_hub.users.models import Login
from himalia_proxy.base import CutsTunnels, ProxyError

log = structlog.get_logger()


async def cut(request: web.Request, session_ids: Iterable[str], *, route: str | None = None) -> None:
    """Have the proxy cut the open WebSockets of these browser sign-ins, all or those on one route. Called after their
    rows are gone.

    A proxy that cannot be asked is logged: the rows are gone in any case, and nothing new opens.
    """
    for session_id in session_ids:
        await _cut(request, login=session_id, route=route)


async def cut_people(request: web.Request, user_ids: Collection[int], *, route: str | None = None) -> None:
    """The same for every sign-in of these people, who stay signed in and have lost a right."""
    async with request.app[DB].read() as db:
        theirs = list(await db.scalars(sa.select(Login.session_id).where(Login.user_id.in_(user_ids))))
    await cut(request, theirs, route=route)


async def cut_route(request: web.Request, route: str) -> None:
    """Cut every open WebSocket on a route. Who may still be there comes back by themselves."""
    await _cut(request, route=route)


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
