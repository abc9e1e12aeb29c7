"""Giving and taking shares, with what is checked and what follows: the same for the API and the pages."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import out
from himalia_hub.errors import BadRequest, NotAuthorized, NotFound
from himalia_hub.groups import store as groups
from himalia_hub.groups.models import Group
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.rbac import expand
from himalia_hub.rbac.identity import Identity
from himalia_hub.replicas.models import CutRow
from himalia_hub.servers import store as servers
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import routespec
from himalia_hub.shares import store
from himalia_hub.shares.models import ShareCode
from himalia_hub.shares.schemas import NewShare, NewShareCode, ShareChange
from himalia_hub.shares.view import Shared, names_of, with_filter
from himalia_hub.users import store as users
from himalia_hub.users.models import User

log = structlog.get_logger()


async def server_of(db: AsyncSession, owner: str, name: str, *, to_share: bool = False) -> Server:
    """The server; NotFound where there is none. The default one, that everybody has, gets its row when it is shared."""
    server = await servers.find(db, owner, name)
    if server is not None:
        return server
    user = None if name else await users.by_name(db, owner)
    if user is None:
        raise NotFound(f"No such server: {owner}/{name}")
    return (
        await servers.get_or_create(db, user, "", now=clock.now()) if to_share else servers.unstarted(user.id)
    )


async def grant(request: web.Request, owner: str, name: str, body: NewShare) -> Shared:
    """Share a server with a person or a group, and say it to the audit.

    NotAuthorized beyond the rights of who asks, or for a name they may not read; BadRequest for a name of nobody.
    """
    scopes = names_of(body.scopes, owner, name, request.app[SETTINGS].rules)
    async with request.app[DB].begin() as db:
        server = await server_of(db, owner, name, to_share=True)
        _may_give(request, scopes, owner, name)
        target = await _target(request, db, body)
        if isinstance(target, User) and target.id == server.user_id:
            raise BadRequest(f"{target.name} owns this server")
        lasts = None if body.expires_in is None else timedelta(seconds=body.expires_in)
        await store.grant(db, server, target, scopes, now=clock.now(), lasts=lasts)
        shared = await store.find(db, server, target, now=clock.now())
    assert shared is not None  # just made
    _told(request, owner, name, after={"with": _with(body), "scopes": shared.row.scopes})
    log.info("share.granted", owner=owner, server=name, scopes=scopes)
    return shared


async def revoke(request: web.Request, owner: str, name: str, body: ShareChange) -> Shared | None:
    """Take rights on a server from a person or a group; the share that is left. Who has none loses nothing."""
    # What cannot be shared nobody has; it need not be known any more.
    # No names at all mean everything, as in JupyterHub: who revokes and names nothing wants nothing kept.
    bare = [scope.partition("!")[0] for scope in body.scopes] if body.scopes else None
    async with request.app[DB].begin() as db:
        server = await server_of(db, owner, name)
        target = await (groups.by_name(db, body.group) if body.group else users.by_name(db, body.user or ""))
        shared = None if target is None else await store.find(db, server, target, now=clock.now())
        if shared is None or target is None:
            return None
        before = list(shared.row.scopes)
        kept = await store.revoke(db, shared.row, bare)
        lost = _note(request, db, owner, name, target)
    _told(request, owner, name, before={"with": _with(body), "scopes": before})
    await out.cut(request.app, lost)
    log.info("share.revoked", owner=owner, server=name)
    return shared if kept else None


async def leave(request: web.Request, target: User | Group, owner: str, name: str) -> None:
    """End a share on the side of who has it; NotFound where there is none."""
    async with request.app[DB].begin() as db:
        server = await servers.find(db, owner, name)
        shared = server and await store.find(db, server, target, now=clock.now())
        if not shared:
            raise NotFound(f"No such share: {target.name} on {owner}/{name}")
        await store.revoke(db, shared.row, None)
        lost = _note(request, db, owner, name, target)
    kind = "user" if isinstance(target, User) else "group"
    _told(request, owner, name, before={"with": {kind: target.name}})
    await out.cut(request.app, lost)


async def revoke_all(request: web.Request, owner: str, name: str) -> None:
    """End every share of a server."""
    async with request.app[DB].begin() as db:
        await store.revoke_all(db, await server_of(db, owner, name))
        lost = _note(request, db, owner, name, None)
    _told(request, owner, name, before={"with": "everybody"})
    await out.cut(request.app, lost)
    log.info("share.revoked", owner=owner, server=name)


async def new_code(
    request: web.Request, owner: str, name: str, body: NewShareCode
) -> tuple[ShareCode, Server, str]:
    """A code that whoever has it can make a share of; it is known only now."""
    scopes = names_of(body.scopes, owner, name, request.app[SETTINGS].rules)
    async with request.app[DB].begin() as db:
        server = await server_of(db, owner, name, to_share=True)
        _may_give(request, scopes, owner, name)
        lasts = timedelta(seconds=body.expires_in)
        row, code = await store.new_code(db, server, scopes, now=clock.now(), lasts=lasts)
    _told(request, owner, name, after={"code": f"sc_{row.id}", "scopes": scopes})
    log.info("share_code.created", owner=owner, server=name, id=row.id)
    return row, server, code


async def delete_codes(
    request: web.Request, owner: str, name: str, *, code: str = "", shown_id: str = ""
) -> None:
    """End one code of a server, or all; NotFound when none is the one that was named."""
    number = _number(shown_id) if shown_id and not code else None
    async with request.app[DB].begin() as db:
        gone = await store.delete_codes(db, await server_of(db, owner, name), code=code, number=number)
    if not gone and (code or shown_id):
        raise NotFound(f"No code found matching id={shown_id[:40]}" if shown_id else "No matching code found")
    _told(request, owner, name, before={"codes": gone})


def _number(shown_id: str) -> int:
    digits = shown_id.removeprefix("sc_")
    if not (shown_id.startswith("sc_") and digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise NotFound(f"No code found matching id={shown_id[:40]}")
    return int(digits)


def _may_give(request: web.Request, scopes: Collection[str], owner: str, name: str) -> None:
    """Nobody gives away what they do not hold on this server."""
    rules, identity = request.app[SETTINGS].rules, _identity(request)
    wanted = expand.expand(tuple(with_filter(scopes, owner, name)), owner, custom=rules.custom)
    missing = sorted(scope for scope in wanted if not identity.covers([scope]))
    if missing:
        raise NotAuthorized(f"Do not have permission to grant share with scope {missing[0]}")


async def _target(request: web.Request, db: AsyncSession, body: NewShare) -> User | Group:
    identity = _identity(request)
    if body.user is not None:
        if not identity.allows("read:users:name", user=body.user):
            raise NotAuthorized("Need scope 'read:users:name' to share with users by name")
        found: User | Group | None = await users.by_name(db, body.user)
    else:
        if not identity.allows("read:groups:name", group=body.group):
            raise NotAuthorized("Need scope 'read:groups:name' to share with groups by name")
        found = await groups.by_name(db, body.group or "")
    if found is None:
        raise BadRequest(
            f"No such group: {body.group}" if body.user is None else f"No such user: {body.user}"
        )
    return found


def _note(
    request: web.Request, db: AsyncSession, owner: str, name: str, target: User | Group | None
) -> CutRow | None:
    """The open WebSockets of who lost a right are to end; JupyterLab of those who did not comes back by itself."""
    route = routespec(request.app[SETTINGS], owner, name)
    if isinstance(target, User):
        return out.note(db, people=[target.id], route=route)
    return out.note(db, everybody=True, route=route)


def _with(body: ShareChange) -> dict[str, Any]:
    return {"user": body.user} if body.group is None else {"group": body.group}


def _told(request: web.Request, owner: str, name: str, **change: Any) -> None:
    tell(request, target_user=owner, target=name, change=change)


def _identity(request: web.Request) -> Identity:
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # the guard let it through
    return identity
