"""The shares part of the REST API: who may do what with whose server, and codes for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock, paging
from himalia_hub.errors import NotFound
from himalia_hub.groups import store as groups
from himalia_hub.groups.models import Group
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.rbac.guard import NO_ACCESS, scoped
from himalia_hub.rbac.identity import Identity
from himalia_hub.schemas import read, takes
from himalia_hub.servers import store as servers
from himalia_hub.shares import change, store
from himalia_hub.shares.schemas import NewShare, NewShareCode, ShareChange
from himalia_hub.shares.view import code_model, share_model
from himalia_hub.users import store as users
from himalia_hub.users.models import User


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix. A server's name is empty for the default one, and the slash stays."""
    api = prefix + "api/"
    table = [
        web.get(api + "shares/{user}", list_shares),
        web.get(api + "share-codes/{user}", list_codes),
        web.get(api + "users/{user}/shared", list_shared_with_user),
        web.get(api + "groups/{group}/shared", list_shared_with_group),
    ]
    for end in ("/", "/{server}"):
        one, codes = api + "shares/{user}" + end, api + "share-codes/{user}" + end
        table += [
            web.get(one, list_shares),
            web.post(one, grant_share),
            web.patch(one, revoke_share),
            web.delete(one, revoke_shares),
            web.get(codes, list_codes),
            web.post(codes, create_code),
            web.delete(codes, delete_codes),
        ]
    for end in ("/", "/{shared}"):
        by_user = api + "users/{user}/shared/{owner}" + end
        by_group = api + "groups/{group}/shared/{owner}" + end
        table += [
            web.get(by_user, get_shared_with_user),
            web.delete(by_user, leave_share),
            web.get(by_group, get_shared_with_group),
            web.delete(by_group, end_group_share),
        ]
    return table


@scoped("read:shares")
@takes(query=("offset", "limit"))
async def list_shares(request: web.Request) -> web.Response:
    """200 the shares of a person's servers, or of one of them, by page; 404 unknown."""
    async with request.app[DB].read() as db:
        if (name := _server(request)) is None:
            which = store.of_owner(await _person(request, db, "read:shares"))
        else:
            which = store.on_server(await change.server_of(db, request.match_info["user"], name))
        return await _shares(request, db, which)


@scoped("shares")
@takes(NewShare)
async def grant_share(request: web.Request) -> web.Response:
    """200 the share, with what was shared before and now; 400 for a person, group or scope that is not known."""
    body = await read(request, NewShare)
    shared = await change.grant(request, request.match_info["user"], _server(request) or "", body)
    return web.json_response(share_model(shared, request.app[SETTINGS]))


@scoped("shares")
@takes(ShareChange)
async def revoke_share(request: web.Request) -> web.Response:
    """200 what is left of the share, `{}` when nothing is. Open WebSockets of who lost it are cut."""
    body = await read(request, ShareChange)
    left = await change.revoke(request, request.match_info["user"], _server(request) or "", body)
    return web.json_response({} if left is None else share_model(left, request.app[SETTINGS]))


@scoped("shares")
async def revoke_shares(request: web.Request) -> web.Response:
    """204; nobody has a share of this server any more."""
    await change.revoke_all(request, request.match_info["user"], _server(request) or "")
    return web.Response(status=204)


# ------------------------------------------------------------------ what others share


@scoped("read:users:shares")
@takes(query=("offset", "limit"))
async def list_shared_with_user(request: web.Request) -> web.Response:
    """200 what is shared with a person, also through their groups, by page; 404 unknown."""
    async with request.app[DB].read() as db:
        return await _shares(
            request, db, store.with_user(await _person(request, db, "read:users:shares"), by_group=True)
        )


@scoped("read:users:shares")
async def get_shared_with_user(request: web.Request) -> web.Response:
    """200 the share of this server with this person; 404 when there is none."""
    async with request.app[DB].read() as db:
        return await _shared(request, db, await _person(request, db, "read:users:shares"))


@scoped("users:shares")
async def leave_share(request: web.Request) -> web.Response:
    """204; the person has this share no longer. 404 when there is none."""
    async with request.app[DB].read() as db:
        user = await _person(request, db, "users:shares")
    await change.leave(request, user, *_shared_server(request))
    return web.Response(status=204)


@scoped("read:groups:shares")
@takes(query=("offset", "limit"))
async def list_shared_with_group(request: web.Request) -> web.Response:
    """200 what is shared with a group, by page; 404 unknown."""
    async with request.app[DB].read() as db:
        return await _shares(request, db, store.with_group(await _group(request, db)))


@scoped("read:groups:shares")
async def get_shared_with_group(request: web.Request) -> web.Response:
    """200 the share of this server with this group; 404 when there is none."""
    async with request.app[DB].read() as db:
        return await _shared(request, db, await _group(request, db))


@scoped("groups:shares")
async def end_group_share(request: web.Request) -> web.Response:
    """204; the group has this share no longer. 404 when there is none."""
    async with request.app[DB].read() as db:
        group = await _group(request, db)
    await change.leave(request, group, *_shared_server(request))
    return web.Response(status=204)


# ------------------------------------------------------------------ codes


@scoped("read:shares")
@takes(query=("offset", "limit"))
async def list_codes(request: web.Request) -> web.Response:
    """200 the codes of a person's servers, or of one of them, by page, without the codes themselves; 404 unknown."""
    page = replace(paging.asked_page(request), enveloped=True)
    async with request.app[DB].read() as db:
        if (name := _server(request)) is None:
            owner, server = await _person(request, db, "read:shares"), None
        else:
            server = await change.server_of(db, request.match_info["user"], name)
            owner = await db.get_one(User, server.user_id)
        rows, total = await store.codes(
            db, owner, server, now=clock.now(), offset=page.offset, limit=page.limit
        )
    settings = request.app[SETTINGS]
    return paging.paged(request, page, [code_model(*row, owner.name, settings) for row in rows], total)


@scoped("shares")
@takes(NewShareCode)
async def create_code(request: web.Request) -> web.Response:
    """200 the model with `code`, `accept_url` and `full_accept_url`: now and never again."""
    owner, body = request.match_info["user"], await read(request, NewShareCode)
    row, server, code = await change.new_code(request, owner, _server(request) or "", body)
    return web.json_response(code_model(row, server, owner, request.app[SETTINGS], code=code))


@scoped("shares")
@takes(query=("code", "id"))
async def delete_codes(request: web.Request) -> web.Response:
    """204; the code named by `?code=` or `?id=`, or else every code of this server, is void. 404 for another."""
    await change.delete_codes(
        request,
        request.match_info["user"],
        _server(request) or "",
        code=request.query.get("code", ""),
        shown_id=request.query.get("id", ""),
    )
    return web.Response(status=204)


# ------------------------------------------------------------------ small parts


def _server(request: web.Request) -> str | None:
    """The name of the server in the path: empty for the default one, None when the path names none."""
    if "server" in request.match_info:
        return request.match_info["server"]
    resource = request.match_info.route.resource
    return "" if resource is not None and resource.canonical.endswith("/") else None


async def _person(request: web.Request, db: AsyncSession, scope: str) -> User:
    """The person of the path, for who holds the scope on all of their servers and not on one only."""
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # the guard let it through
    name = request.match_info["user"]
    user = await users.by_name(db, name)
    if user is None or not identity.allows(scope, user=name):
        raise NotFound(NO_ACCESS)
    return user


async def _group(request: web.Request, db: AsyncSession) -> Group:
    group = await groups.by_name(db, request.match_info["group"])
    if group is None:
        raise NotFound(NO_ACCESS)
    return group


def _shared_server(request: web.Request) -> tuple[str, str]:
    return request.match_info["owner"], request.match_info.get("shared", "")


async def _shared(request: web.Request, db: AsyncSession, target: User | Group) -> web.Response:
    owner, name = _shared_server(request)
    server = await servers.find(db, owner, name)
    shared = server and await store.find(db, server, target, now=clock.now())
    if not shared:
        raise NotFound(f"No such share: {target.name} on {owner}/{name}")
    return web.json_response(share_model(shared, request.app[SETTINGS]))


async def _shares(request: web.Request, db: AsyncSession, which: sa.ColumnElement[bool]) -> web.Response:
    """One page, always in the envelope, as in JupyterHub."""
    page = replace(paging.asked_page(request), enveloped=True)
    found, total = await store.page_of(db, which, now=clock.now(), offset=page.offset, limit=page.limit)
    models: Sequence[dict[str, Any]] = [share_model(shared, request.app[SETTINGS]) for shared in found]
    return paging.paged(request, page, models, total)
