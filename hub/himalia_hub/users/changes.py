"""What is done to people, by whichever door it is asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import out
from himalia_hub.auth.accounts import reach_of
from himalia_hub.errors import BadRequest, NotAuthorized, NotFound
from himalia_hub.keys import DB, DOORBELL, SETTINGS, WORLD
from himalia_hub.rbac.guard import NO_ACCESS
from himalia_hub.rbac.identity import Identity
from himalia_hub.replicas.models import CutRow
from himalia_hub.servers import store as servers
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import stopped
from himalia_hub.users import homes, store
from himalia_hub.users.models import User
from himalia_spawner.errors import SpawnError

log = structlog.get_logger()


def may_touch(identity: Identity, user: User) -> None:
    """NotAuthorized where somebody would change a person above them."""
    if user.admin and not identity.is_whole_admin:
        raise NotAuthorized("only an administrator, with all rights, can change or delete one")


async def rename(db: AsyncSession, user: User, wanted: str) -> None:
    """Give a person another name; BadRequest when it is taken or cannot be one, and while a server of theirs runs.

    Their files stay where they are and theirs.
    """
    clean = store.normalise(wanted)
    if await store.by_name(db, clean) is not None:
        raise BadRequest(f"the name {clean!r} is taken")
    # A running server's address, environment and OAuth client carry the name.
    if not all(map(stopped, await _held(db, user.id))):
        raise BadRequest(f"{user.name} has a running server", remedy="stop it, then rename")
    await db.run_sync(lambda sync: homes.keep(sync, user.id, homes.files_of(sync, user.id)))
    user.name = clean


def note_change(db: AsyncSession, user: User, before: Mapping[str, Any]) -> CutRow | None:
    """Note what is to be cut where somebody was an administrator (`admin`), or had another `name`: the configuration
    gives roles by name.
    """
    loses = (before["admin"] and not user.admin) or before["name"] != user.name
    return out.note(db, people=[user.id] if loses else ())


async def _held(db: AsyncSession, user_id: int) -> Sequence[Server]:
    """A person's servers, of which no other hub starts or makes one until this transaction has ended."""
    theirs = sa.select(Server).where(Server.user_id == user_id).order_by(Server.id).with_for_update()
    # Servers first, as whoever ends one does; and again, for one that was made before its person was held.
    await db.execute(theirs)
    await db.execute(sa.select(User.id).where(User.id == user_id).with_for_update())
    return (await db.scalars(theirs.execution_options(populate_existing=True))).all()


async def delete(request: web.Request, identity: Identity, name: str) -> None:
    """Stop and forget a person's servers, then the person; BadRequest while a server will not end."""
    app = request.app
    async with app[DB].begin() as db:
        user = await store.by_name(db, name)
        if user is None:
            raise NotFound(NO_ACCESS)
        may_touch(identity, user)
        theirs = await servers.list_for_user(db, user.id)
        for server in theirs:
            await servers.want_stopped(db, server, now=clock.now(), doomed=True)
    for server in theirs:
        app[DOORBELL].ring(server.id)
    deadline = time.monotonic() + app[SETTINGS].servers.slow_stop_s
    for server in theirs:
        await _until_stopped(app, server.id, deadline)
    async with app[DB].begin() as db:
        # Looked at again inside the transaction that deletes: somebody may have pressed Start meanwhile.
        left = await _held(db, user.id)
        if not all(map(stopped, left)):
            raise BadRequest(f"{name} has servers that are still stopping", remedy="ask again in a moment")
        gone = out.note(db, await reach_of(db, [user.id]))
        await db.execute(sa.delete(User).where(User.id == user.id))
    await out.cut(request.app, gone)
    await _purge(app, left)


async def _purge(app: web.Application, gone: Sequence[Server]) -> None:
    """Of servers that were at rest, and whose rows went with their person's before the reconciler came to them: logs
    would stay for a time, and volumes that are to go with their person for ever.
    """
    for server in gone:
        try:
            await app[WORLD].spawner.purge(server.backend_name)
        except (SpawnError, OSError) as error:
            log.warning("server.not_purged", name=server.backend_name, error=str(error))


async def _until_stopped(app: web.Application, server_id: int, deadline: float) -> None:
    with app[DOORBELL].watch(server_id) as watch:
        while (left := deadline - time.monotonic()) > 0:
            async with app[DB].read() as db:
                server = await db.get(Server, server_id)
            if server is None or stopped(server):
                return
            await watch.wait(min(left, 0.5))
