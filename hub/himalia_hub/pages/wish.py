"""Starting and stopping from pages: the API's wishes, limits and wake-up calls, with no waiting."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.errors import Conflict, NotFound
from himalia_hub.faults import async_fault
from himalia_hub.keys import DB, DOORBELL, SETTINGS
from himalia_hub.servers import store
from himalia_hub.servers.asking import ask
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import pending, ready


async def start(
    request: web.Request,
    username: str,
    name: str,
    options: dict[str, Any] | None,
    *,
    safe_mode: bool = False,
) -> Server:
    """Wish that it runs. Pressing Start twice, in two tabs or by the back button, is one start."""
    tell(request, target_user=username, target=name)
    async with request.app[DB].begin() as db:
        server = await start_in(request.app, db, username, name, options, safe_mode=safe_mode)
        await async_fault("wish.before_commit")
    await async_fault("wish.after_commit")
    request.app[DOORBELL].ring(server.id)
    return server


async def start_in(
    app: web.Application,
    db: AsyncSession,
    username: str,
    name: str,
    options: dict[str, Any] | None,
    *,
    safe_mode: bool = False,
) -> Server:
    """The same within a transaction of the caller's, who rings the bell after it."""
    user, server = await store.find_with_user(db, username, name)
    if user is None:
        raise NotFound("There is no such person.")
    if server is not None and (ready(server) or pending(server) in ("spawn", "check")):
        return server
    if server is not None and pending(server) == "stop":
        raise Conflict("This server is still stopping.", remedy="Wait a moment, then start it again.")
    return await ask(db, app[SETTINGS], user, name, server, options, safe_mode=safe_mode)


async def stop(request: web.Request, username: str, name: str, *, remove: bool = False) -> None:
    """Wish that it is gone, whatever state it is in; `remove` forgets a named server altogether."""
    tell(request, target_user=username, target=name)
    async with request.app[DB].begin() as db:
        server = await store.find(db, username, name)
        if server is None:
            if name:
                raise NotFound(f"There is no server named “{name[:64]}” here.")
            return
        await store.want_stopped(db, server, now=clock.now(), doomed=remove and bool(name))
        await async_fault("wish.before_commit")
    await async_fault("wish.after_commit")
    request.app[DOORBELL].ring(server.id)
