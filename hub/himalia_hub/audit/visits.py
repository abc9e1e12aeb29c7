"""Visits by API token: who comes so passes no page of the hub, so the server that lets them in says that it asks."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from aiohttp import web

from himalia_hub import clock
from himalia_hub.audit.record import ACCESS, tell
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.rbac.identity import Identity, from_token
from himalia_hub.servers.models import Server
from himalia_hub.servers.spec import client_id

HEADER = "X-Himalia-Server-Token"
"""The own token of the server that asks who its visitor is. Ours sends it now and then; official ones never do."""
EVERY = timedelta(minutes=5)
"""One row at most in that time of one token at one server, from one hub."""
MOST_KNOWN = 10_000

LAST: web.AppKey[dict[tuple[int, int], datetime]] = web.AppKey("visits")
"""When a row was last written, by the ids of token and server."""


async def note(request: web.Request) -> None:
    """Have a row written when the request is of somebody else's server, on a token that it was not issued itself.

    What a server sends is believed as far as it proves: it holds its own token, and the visitor's.
    """
    secret, visitor = request.headers.get(HEADER), request.get(IDENTITY)
    if not secret or visitor is None or visitor.token is None:
        return
    now = clock.now()
    async with request.app[DB].read() as db:
        host = await from_token(db, secret, request.app[SETTINGS].rules, now=now)
        if host is None or host.token is None or host.token.server_id is None:
            return
        server_id = host.token.server_id
        name = await db.scalar(sa.select(Server.name).where(Server.id == server_id))
    if name is None or not _is_visit(visitor, host.name, name):
        return
    last, key = request.app[LAST], (visitor.token.id, server_id)
    if key in last and now - EVERY < last[key] <= now:
        return
    if len(last) >= MOST_KNOWN:
        last.clear()
    last[key] = now
    tell(request, kind=ACCESS, target_user=host.name, target=name)


def _is_visit(visitor: Identity, owner: str, name: str) -> bool:
    """Sign-ins at the server itself were recorded when it was given their token; refused ones open nothing."""
    assert visitor.token is not None
    is_owner = visitor.service_id is None and visitor.name == owner
    signed_in_there = visitor.token.client_id == client_id(owner, name)
    return not is_owner and not signed_in_there and visitor.allows("access:servers", user=owner, server=name)
