"""The people part of the REST API."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock, paging
from himalia_hub.audit import visits
from himalia_hub.audit.record import tell
from himalia_hub.auth import origin, out, state
from himalia_hub.auth.vault import VAULT
from himalia_hub.errors import BadRequest, Conflict, NotAuthenticated, NotAuthorized, NotFound
from himalia_hub.groups import store as groups
from himalia_hub.keys import DB, IDENTITY, MEMO, SETTINGS
from himalia_hub.rbac import rights
from himalia_hub.rbac.expand import filters_of
from himalia_hub.rbac.guard import NO_ACCESS, public, scoped
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.resolve import of_token
from himalia_hub.schemas import read, takes
from himalia_hub.servers import store as servers
from himalia_hub.services.models import Service
from himalia_hub.services.view import service_model
from himalia_hub.users import changes, many, store
from himalia_hub.users.listing import list_users, read_filter
from himalia_hub.users.models import User
from himalia_hub.users.schemas import NewUser, NewUsers, UserChange
from himalia_hub.users.view import KEYS, user_model

KEPT_S = 5
TOLD = 1000
"""So many names of one request stand in the audit."""

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    one = prefix + "api/users/{user}"
    return [
        web.get(prefix + "api/user", get_self),
        web.get(prefix + "api/authorizations/token/{secret}", whose_token),
        web.get(prefix + "api/users", get_users),
        web.post(prefix + "api/users", create_users),
        web.get(one, get_user),
        web.post(one, create_user),
        web.patch(one, change_user),
        web.delete(one, delete_user),
        web.post(one + "/admin-access", open_to_administrators),
    ]


@public
@takes(query=("include_stopped_servers",))
async def get_self(request: web.Request) -> web.Response:
    """200 the model of who asks, with `scopes`, `token_id` and `session_id`; 403 without credentials.

    A credential may always read its own owner's name; scopes that it has only for that are not listed. A server that
    asks for a visitor sends its own token as `X-Himalia-Server-Token`: the visit is then in the audit log.
    """
    identity: Identity | None = request.get(IDENTITY)
    if identity is None:
        raise NotAuthenticated
    await visits.note(request)

    async def make() -> bytes:
        model = await _model_of(request, identity, seen_by=identity)
        model["token_id"] = f"a{identity.token.id}" if identity.token else None
        # Of a browser's own sign-in it is the value of a cookie that scripts must not read.
        model["session_id"] = identity.token.session_id if identity.token else None
        model["scopes"] = sorted(identity.scopes)
        return json.dumps(model).encode()

    body = await request.app[MEMO].get(("self", *_asker(identity), request.query_string), make)
    return web.Response(body=body, content_type="application/json", charset="utf-8")


@public
async def whose_token(request: web.Request) -> web.Response:
    """200 the model of a token's owner, as far as who asks may see it; 404 unknown, 403 to who shows no token.

    Deprecated: `GET /user` by the token itself says the same, and puts no secret into an address.
    """
    identity: Identity | None = request.get(IDENTITY)
    if identity is None or identity.token is None:
        raise NotAuthenticated
    owner = await of_token(request, request.match_info["secret"])
    if owner is None:
        raise NotFound("")
    return web.json_response(await _model_of(request, owner, seen_by=identity))


async def _model_of(request: web.Request, owner: Identity, *, seen_by: Identity) -> dict[str, Any]:
    """The model of the owner of a credential, which may always be read by name."""
    known = replace(seen_by, scopes=seen_by.scopes | owner.identify_scopes)
    return await (_own_model if owner.service_id is None else _own_service)(request, owner, known)


def _asker(identity: Identity) -> tuple[Hashable, ...]:
    """What an answer that is kept depends on beside the rows. Roles that are given for a time end by themselves, within
    KEPT_S.
    """
    return identity.credential, identity.scopes, int(clock.now().timestamp() / KEPT_S)


async def _own_model(request: web.Request, owner: Identity, known: Identity) -> dict[str, Any]:
    async with request.app[DB].read() as db:
        user = await db.get(User, owner.person)
        own = await servers.list_for_user(db, owner.person)
        in_groups = await groups.of_user(db, owner.person)
    if user is None:
        raise NotAuthenticated
    return user_model(
        user,
        own,
        known,
        request.app[SETTINGS],
        groups=in_groups,
        role_names=owner.roles,
        stopped_too=_stopped_too(request),
    )


async def _own_service(request: web.Request, owner: Identity, known: Identity) -> dict[str, Any]:
    async with request.app[DB].read() as db:
        service = await db.get(Service, owner.service_id)
    if service is None:
        raise NotAuthenticated
    return service_model(service, known, request.app[SETTINGS], role_names=owner.roles)


@scoped("list:users", filtered=True)
@takes(query=("offset", "limit", "state", "sort", "name_filter", "include_stopped_servers"))
async def get_users(request: web.Request) -> web.Response:
    """200 the people whom the caller may list, by page."""
    identity = _identity(request)
    filters = filters_of(identity.scopes, "list:users")
    if filters is not None and any(kind not in ("user", "group") for kind, _ in filters):
        raise NotAuthorized("list:users cannot be filtered by server")
    only = None if filters is None else _named(identity, filters)
    wanted = read_filter(request.query, only)
    page = paging.asked_page(request)

    async def make() -> bytes:
        async with request.app[DB].read() as db:
            found, total = await list_users(db, wanted, offset=page.offset, limit=page.limit)
            ids = [user.id for user in found]
            theirs, member_of = await servers.list_for_users(db, ids), await groups.of_users(db, ids)
            names = await rights.role_names(db, found, request.app[SETTINGS].rules, now=clock.now())
        settings, too = request.app[SETTINGS], _stopped_too(request)
        models = [
            user_model(
                user,
                theirs[user.id],
                identity,
                settings,
                groups=member_of[user.id],
                role_names=names[user.id],
                stopped_too=too,
            )
            for user in found
        ]
        return json.dumps(paging.content(request, page, models, total)).encode()

    asked = (request.query_string, page.enveloped, request.host, origin.scheme(request))
    body = await request.app[MEMO].get(("users", *_asker(identity), *asked), make)
    return web.Response(body=body, content_type="application/json", charset="utf-8")


def _named(identity: Identity, filters: set[tuple[str, str]]) -> set[str]:
    """The people whom filters of users and groups name."""
    return {
        name
        for kind, value in filters
        for name in ([value] if kind == "user" else identity.members.get(value, ()))
    }


@scoped("admin:users")
@takes(NewUsers)
async def create_users(request: web.Request) -> web.Response:
    """201 the people who were made; 409 when all exist. One name that cannot be used: 400 for all."""
    body = await read(request, NewUsers)
    _may_make_admin(request, wanted=body.admin)
    names, now = await many.normalise(body.usernames), clock.now()
    async with request.app[DB].begin() as db:
        made = await many.create(db, names, admin=body.admin, now=now)
    if not made:
        raise Conflict(f"{', '.join(repr(name) for name in names[:5])} exist already")
    tell(request, change={"after": {"users": made[:TOLD], "count": len(made), "admin": body.admin}})
    log.info("users.created", count=len(made))
    answer = await many.models(made, _identity(request), request.app[SETTINGS], admin=body.admin, now=now)
    return web.Response(body=answer, status=201, content_type="application/json", charset="utf-8")


@scoped(*(scope for scope in KEYS if scope != "admin:auth_state"))
@takes(query=("include_stopped_servers",))
async def get_user(request: web.Request) -> web.Response:
    """200 the model with the keys that the caller may see."""
    return await _answer(request, request.match_info["user"])


@scoped("admin:users")
@takes(NewUser)
async def create_user(request: web.Request) -> web.Response:
    """201 the new person; 409 when there is one of that name."""
    body, name = await read(request, NewUser), request.match_info["user"]
    _sets_neither_groups_nor_roles(body)
    if body.auth_state or body.name not in (None, name, store.normalise(name)):
        raise BadRequest("the name stands in the path, and auth_state comes when somebody signs in")
    _may_make_admin(request, wanted=bool(body.admin))
    async with request.app[DB].begin() as db:
        user = await store.create(db, name, now=clock.now(), admin=bool(body.admin))
    tell(request, change={"after": {"name": user.name, "admin": user.admin}})
    log.info("users.created", count=1)
    return await _answer(request, user.name, status=201)


@scoped("admin:users")
@takes(UserChange)
async def change_user(request: web.Request) -> web.Response:
    """200 the changed model. 400 for a name that is taken or cannot be used; 403 to reach above oneself."""
    body = await read(request, UserChange, needed=True)
    _sets_neither_groups_nor_roles(body)
    _may_make_admin(request, wanted=bool(body.admin))
    async with request.app[DB].begin() as db:
        user = await _user(db, request.match_info["user"])
        changes.may_touch(_identity(request), user)
        before = {"name": user.name, "admin": user.admin}
        if body.name is not None and body.name != user.name:
            await changes.rename(db, user, body.name)
        if body.admin is not None:
            user.admin = body.admin
        if "auth_state" in body.model_fields_set:
            kept = await state.replace(db, request.app[VAULT], user.id, body.auth_state)
            if not kept and body.auth_state:
                raise BadRequest(f"{user.name} signs in nowhere else, so there is no auth_state to keep")
        tell(request, change={"before": before, "after": {"name": user.name, "admin": user.admin}})
        lost = changes.note_change(db, user, before)
    await out.cut(request.app, lost)
    log.info("users.changed", changed=sorted(body.model_fields_set))
    # By row, not through the guard's scopes: the new name may lie outside the caller's filter.
    return await _answer(request, user.name, seen_as=request.match_info["user"])


@scoped("delete:users")
async def delete_user(request: web.Request) -> web.Response:
    """204; their servers are stopped first. 400 for oneself, and while a server will not end."""
    identity, name = _identity(request), request.match_info["user"]
    if identity.user_id is not None and identity.name == name:
        raise BadRequest("nobody can delete their own account; ask another administrator")
    await changes.delete(request, identity, name)
    log.info("users.deleted", name=name)
    return web.Response(status=204)


@scoped("servers")
async def open_to_administrators(request: web.Request) -> web.Response:
    """403 always: JupyterHub's call of before there were scopes, which opened nothing by itself."""
    raise NotAuthorized(
        "no server is opened by this call", remedy="who holds access:servers simply visits /user/NAME/"
    )


async def _user(db: AsyncSession, name: str) -> User:
    user = await store.by_name(db, name)
    if user is None:
        raise NotFound(NO_ACCESS)
    return user


async def _answer(
    request: web.Request, name: str, *, status: int = 200, seen_as: str | None = None
) -> web.Response:
    identity = _identity(request)
    async with request.app[DB].read() as db:
        user = await _user(db, name)
        theirs = await servers.list_for_user(db, user.id)
        in_groups = await groups.of_user(db, user.id)
        names = await rights.role_names(db, [user], request.app[SETTINGS].rules, now=clock.now())
        kept = await state.of_user(db, request.app[VAULT], user.id)
    if seen_as is not None and seen_as != name:
        renamed = {scope.replace(f"!user={seen_as}", f"!user={name}") for scope in identity.scopes}
        identity = replace(identity, scopes=frozenset(renamed))
    model = user_model(
        user,
        theirs,
        identity,
        request.app[SETTINGS],
        groups=in_groups,
        role_names=names[user.id],
        stopped_too=_stopped_too(request),
    )
    if "auth_state" in model:
        model["auth_state"] = kept
    return web.json_response(model, status=status)


def _identity(request: web.Request) -> Identity:
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # the guard let it through
    return identity


def _sets_neither_groups_nor_roles(body: UserChange) -> None:
    for key, place in (("groups", "/groups/NAME/users"), ("roles", "/roles/NAME/members")):
        if getattr(body, key):
            raise BadRequest(f"{key} are not set with a person", remedy=f"POST {place}")


def _may_make_admin(request: web.Request, *, wanted: bool) -> None:
    """Nobody grants what they do not hold in full: an administrator is made by one."""
    if wanted and not _identity(request).is_whole_admin:
        raise NotAuthorized("only an administrator, with all rights, can make one")


def _stopped_too(request: web.Request) -> bool:
    return request.query.get("include_stopped_servers", "0").lower() not in ("0", "false")
