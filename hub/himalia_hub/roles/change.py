"""Making, changing, giving and taking roles. API and page both go through here, so that neither allows more."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
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
from himalia_hub.rbac.guard import NO_ACCESS
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.models import Role
from himalia_hub.rbac.roles import DEFAULT_ROLES
from himalia_hub.rbac.rules import Rules
from himalia_hub.rbac.settings import ROLE_NAME
from himalia_hub.roles import store

log = structlog.get_logger()


async def put(
    request: web.Request, name: str, description: str, scopes: Sequence[str], *, only_new: bool = False
) -> tuple[dict[str, Any], bool]:
    """Make a role, or give one that is there these scopes; its model, and whether it is new.

    BadRequest for an odd name or an unknown scope, NotAuthorized beyond the caller's own rights, Conflict for one of
    the configuration, and with `only_new` for one that is there.
    """
    if not re.fullmatch(ROLE_NAME, name):
        raise BadRequest(f"{name[:80]!r} cannot be a role's name", remedy="a-z, 0-9 and -_~., a letter first")
    refuse_fixed(request, name)
    for scope in scopes:
        request.app[SETTINGS].rules.check(scope)
    _may_give(request, tuple(scopes))
    async with request.app[DB].begin() as db:
        role = await store.by_name(db, name)
        is_new = role is None
        if only_new and not is_new:
            raise Conflict(
                f"there is a role {name!r} already", remedy="change that one, or choose another name"
            )
        role = role or Role(name=name, scopes=[])
        before = list(role.scopes)
        losing = await _who_loses(request, db, role, set(before) - set(scopes))
        role.description, role.scopes = description, list(scopes)
        db.add(role)
        await db.flush()
        made = await model(db, role)
        lost = out.note(db, people=losing.people, services=losing.services)
    tell(request, target=name, change={"before": {"scopes": before}, "after": {"scopes": list(scopes)}})
    await out.cut(request.app, lost)
    log.info("role.put", name=name, scopes=list(scopes))
    return made, is_new


async def delete(request: web.Request, name: str) -> None:
    """Whoever had it has it no longer. NotFound; Conflict for one of the configuration."""
    refuse_fixed(request, name)
    async with request.app[DB].begin() as db:
        role = await find(db, name)
        losing = await _who_loses(request, db, role, set(role.scopes))
        tell(request, target=role.name, change={"before": {"scopes": list(role.scopes)}})
        await db.delete(role)
        lost = out.note(db, people=losing.people, services=losing.services)
    await out.cut(request.app, lost)
    log.info("role.deleted", name=name)


async def hand(
    request: web.Request,
    name: str,
    holders: Mapping[str, Sequence[str]],
    *,
    give: bool,
    until: datetime | None = None,
) -> dict[str, Any]:
    """Give the role to these people, groups and services (by `user`, `group` and `service`), or take it; its model.

    NotAuthorized for a role beyond the caller's own rights, BadRequest for a name that nobody has, Conflict for a role
    of the configuration.
    """
    refuse_fixed(request, name)
    async with request.app[DB].begin() as db:
        role = await find(db, name)
        if give:
            _may_give(request, tuple(role.scopes))
        had = await _who_loses(request, db, role, () if give else set(role.scopes))
        for kind, names in holders.items():
            if give:
                await store.give(db, role, kind, names, until=until)
            else:
                await store.take(db, role, kind, names)
        await db.flush()
        losing = had - await store.held_by(db, role, now=clock.now()) if had else had
        lost = out.note(db, people=losing.people, services=losing.services)
        made = await model(db, role)
    done = {f"{kind}s": list(names) for kind, names in holders.items()} | {"until": clock.iso(until)}
    tell(request, target=role.name, change={"after": {"given" if give else "taken": done}})
    await out.cut(request.app, lost)
    log.info("role.given" if give else "role.taken", name=role.name, holders=made["members"][:20])
    return made


async def every(request: web.Request) -> list[dict[str, Any]]:
    """The models of all: those of the configuration and the defaults first."""
    rules = request.app[SETTINGS].rules
    models = [fixed_model(rules, name) for name in sorted({*DEFAULT_ROLES, *rules.roles})]
    async with request.app[DB].read() as db:
        return models + [await model(db, role) for role in await store.every(db)]


def held_by(models: Iterable[Mapping[str, Any]], kind: str, name: str) -> list[tuple[str, datetime | None]]:
    """Which of these roles a holder has, and until when; None: for good. Pure."""
    return [
        (model["name"], one["expires_at"] and datetime.fromisoformat(one["expires_at"]))
        for model in models
        for one in model["members"]
        if (one["kind"], one["name"]) == (kind, name)
    ]


def to_give(identity: Identity, models: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of those that can be given here, by who may give roles: the configuration gives its own."""
    allowed = identity.allows("admin:roles")
    return [model["name"] for model in models if allowed and not model["from_config"]]


async def find(db: AsyncSession, name: str) -> Role:
    """The role that is a row; NotFound."""
    role = await store.by_name(db, name)
    if role is None:
        raise NotFound(NO_ACCESS)
    return role


def refuse_fixed(request: web.Request, name: str) -> None:
    """Conflict for a role that only the configuration can change."""
    if request.app[SETTINGS].rules.scopes_of(name) is not None:
        raise Conflict(f"the role {name!r} is the configuration's", remedy="change it in [[roles]]")


def fixed_model(rules: Rules, name: str) -> dict[str, Any]:
    """A role of the configuration."""
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


async def model(db: AsyncSession, role: Role) -> dict[str, Any]:
    """A role that is a row."""
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


async def _who_loses(
    request: web.Request, db: AsyncSession, role: Role, scopes: Collection[str]
) -> store.HeldBy:
    """Who has the role, when these of its scopes let anybody in somewhere: their WebSockets there are open still."""
    if not scopes or not request.app[SETTINGS].rules.lets_in(scopes):
        return store.HeldBy()
    return await store.held_by(db, role, now=clock.now())


def _may_give(request: web.Request, raw: tuple[str, ...]) -> None:
    identity, rules = request[IDENTITY], request.app[SETTINGS].rules
    assert identity is not None
    if "inherit" in raw:
        raise BadRequest("inherit is for tokens; a role names its scopes")
    if not identity.may_give(expand.expand(raw, identity.person_name, custom=rules.custom)):
        raise NotAuthorized("a role cannot allow more than you may do yourself")
