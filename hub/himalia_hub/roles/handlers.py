"""The roles part of the REST API, which JupyterHub does not have. Roles of the configuration can only be read."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import out
from himalia_hub.errors import BadRequest, Conflict, NotAuthorized, NotFound
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.rbac import expand
from himalia_hub.rbac.guard import NO_ACCESS, scoped
from himalia_hub.rbac.models import Role
from himalia_hub.rbac.roles import DEFAULT_ROLES
from himalia_hub.rbac.settings import ROLE_NAME
from himalia_hub.roles import store
from himalia_hub.roles.schemas import Holders, RoleBody
from himalia_hub.schemas import read, takes

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    one = prefix + "api/roles/{role}"
    return [
        web.get(prefix + "api/roles", get_roles),
        web.get(one, get_role),
        web.put(one, put_role),
        web.delete(one, delete_role),
        web.post(one + "/members", give_role),
        web.delete(one + "/members", take_role),
    ]


@scoped("read:roles")
async def get_roles(request: web.Request) -> web.Response:
    """200 every role: those of the configuration and the defaults first."""
    rules = request.app[SETTINGS].rules
    models = [_fixed_model(request, name) for name in sorted({*DEFAULT_ROLES, *rules.roles})]
    async with request.app[DB].read() as db:
        models += [await _model(db, role) for role in await store.every(db)]
    return web.json_response(models)


@scoped("read:roles")
async def get_role(request: web.Request) -> web.Response:
    """200 the model; 404 unknown."""
    name = request.match_info["role"]
    if request.app[SETTINGS].rules.scopes_of(name) is not None:
        return web.json_response(_fixed_model(request, name))
    async with request.app[DB].read() as db:
        return web.json_response(await _model(db, await _role(db, request)))


@scoped("admin:roles")
@takes(RoleBody)
async def put_role(request: web.Request) -> web.Response:
    """201 a new role, 200 one that was there, with these scopes from now on; 403 beyond the caller's own rights, 409
    for one of the configuration.
    """
    name, body = request.match_info["role"], await read(request, RoleBody)
    if not re.fullmatch(ROLE_NAME, name):
        raise BadRequest(f"{name[:80]!r} cannot be a role's name", remedy="a-z, 0-9 and -_~., a letter first")
    _refuse_fixed(request)
    for scope in body.scopes:
        request.app[SETTINGS].rules.check(scope)
    _may_give(request, tuple(body.scopes))
    async with request.app[DB].begin() as db:
        role = await store.by_name(db, name)
        status = 201 if role is None else 200
        role = role or Role(name=name, scopes=[])
        before = list(role.scopes)
        losing = await _who_loses(request, db, role, set(before) - set(body.scopes)) if before else set()
        role.description, role.scopes = body.description, list(body.scopes)
        db.add(role)
        await db.flush()
        model = await _model(db, role)
    tell(request, target=name, change={"before": {"scopes": before}, "after": {"scopes": body.scopes}})
    await out.cut_people(request, losing)
    log.info("role.put", name=name, scopes=body.scopes)
    return web.json_response(model, status=status)


@scoped("admin:roles")
async def delete_role(request: web.Request) -> web.Response:
    """204; who had it has it no longer. 409 for one of the configuration."""
    _refuse_fixed(request)
    async with request.app[DB].begin() as db:
        role = await _role(db, request)
        losing = await _who_loses(request, db, role, set(role.scopes))
        tell(request, target=role.name, change={"before": {"scopes": list(role.scopes)}})
        await db.delete(role)
    await out.cut_people(request, losing)
    log.info("role.deleted", name=request.match_info["role"])
    return web.Response(status=204)


@scoped("admin:roles")
@takes(Holders)
async def give_role(request: web.Request) -> web.Response:
    """200 the role with its new holders. 403 for a role beyond the caller's own rights, 400 for an unknown name,
    409 for a role of the configuration.
    """
    return await _change(request, give=True)


@scoped("admin:roles")
@takes(Holders)
async def take_role(request: web.Request) -> web.Response:
    """200 the role without these holders; not having it is fine. 409 for a role of the configuration."""
    return await _change(request, give=False)


async def _change(request: web.Request, *, give: bool) -> web.Response:
    body, now = await read(request, Holders), clock.now()
    _refuse_fixed(request)
    until = now + timedelta(seconds=body.expires_in) if body.expires_in else None
    async with request.app[DB].begin() as db:
        role = await _role(db, request)
        if give:
            _may_give(request, tuple(role.scopes))
        had = set() if give else await _who_loses(request, db, role, set(role.scopes))
        for kind, names in (("user", body.users), ("group", body.groups), ("service", body.services)):
            if give:
                await store.give(db, role, kind, names, until=until)
            else:
                await store.take(db, role, kind, names)
        await db.flush()
        losing = had - await store.people_with(db, role) if had else had
        model = await _model(db, role)
    done = {"users": body.users, "groups": body.groups, "services": body.services, "until": clock.iso(until)}
    tell(request, target=role.name, change={"after": {"given" if give else "taken": done}})
    await out.cut_people(request, losing)
    log.info("role.given" if give else "role.taken", name=role.name, holders=model["members"][:20])
    return web.json_response(model)


async def _who_loses(request: web.Request, db: AsyncSession, role: Role, scopes: Collection[str]) -> set[int]:
    """Who has the role, when these of its scopes let anybody in somewhere: their WebSockets there are open still."""
    expanded = expand.expand(tuple(sorted(scopes)), "", custom=request.app[SETTINGS].rules.custom)
    if not any(scope.startswith("access:") for scope in expanded):
        return set()
    return await store.people_with(db, role)


def _may_give(request: web.Request, raw: tuple[str, ...]) -> None:
    identity, rules = request[IDENTITY], request.app[SETTINGS].rules
    assert identity is not None
    if "inherit" in raw:
        raise BadRequest("inherit is for tokens; a role names its scopes")
    if not identity.may_give(expand.expand(raw, identity.person_name, custom=rules.custom)):
        raise NotAuthorized("a role cannot allow more than you may do yourself")


def _refuse_fixed(request: web.Request) -> None:
    name = request.match_info["role"]
    if request.app[SETTINGS].rules.scopes_of(name) is not None:
        raise Conflict(f"the role {name!r} is the configuration's", remedy="change it in [[roles]]")


def _fixed_model(request: web.Request, name: str) -> dict[str, Any]:
    rules = request.app[SETTINGS].rules
    said = rules.roles.get(name)
    holders = {"user": said.users, "group": said.groups, "service": said.services} if said else {}
    return {
        "kind": "role",
        "name": name,
        "description": said.description if said else "",
        "scopes": list(rules.scopes_of(name) or ()),
        "from_config": True,
        "members": [
            {"kind": kind, "name": holder, "expires_at": None} for kind in holders for holder in holders[kind]
        ],
    }


async def _model(db: AsyncSession, role: Role) -> dict[str, Any]:
    return {
        "kind": "role",
        "name": role.name,
        "description": role.description,
        "scopes": role.scopes,
        "from_config": False,
        "members": [
            {"kind": kind, "name": name, "expires_at": clock.iso(until)}
            for kind, name, until in await store.holders(db, role, now=clock.now())
        ],
    }


async def _role(db: AsyncSession, request: web.Request) -> Role:
    role = await store.by_name(db, request.match_info["role"])
    if role is None:
        raise NotFound(NO_ACCESS)
    return role
