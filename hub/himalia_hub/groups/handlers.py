"""The groups part of the REST API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock, paging
from himalia_hub.audit.record import tell
from himalia_hub.auth import out
from himalia_hub.body import json_object
from himalia_hub.errors import BadRequest, NotAuthorized, NotFound
from himalia_hub.groups import store
from himalia_hub.groups.change import managers_come_in, may_put_in, note_leaving
from himalia_hub.groups.models import Group
from himalia_hub.groups.schemas import NewGroup, NewGroups, People
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.rbac import rights
from himalia_hub.rbac.expand import filters_of
from himalia_hub.rbac.guard import NO_ACCESS, scoped
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.models import RoleAssignment
from himalia_hub.schemas import Anything, read, takes

TOLD = 1000
"""So many names of one request stand in the audit."""

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    one = prefix + "api/groups/{group}"
    return [
        web.get(prefix + "api/groups", get_groups),
        web.post(prefix + "api/groups", create_groups),
        web.get(one, get_group),
        web.post(one, create_group),
        web.delete(one, delete_group),
        web.post(one + "/users", add_users),
        web.delete(one + "/users", remove_users),
        web.put(one + "/properties", put_properties),
        web.get(one + "/managers", get_managers),
        web.post(one + "/managers", add_managers),
        web.delete(one + "/managers", remove_managers),
    ]


def group_model(
    group: Group, users: Sequence[str], identity: Identity, *, role_names: Sequence[str] = ()
) -> dict[str, Any]:
    """JupyterHub's group model with the keys that the caller may see."""
    model: dict[str, Any] = {"kind": "group", "name": group.name}
    if identity.allows("read:groups", group=group.name):
        model |= {"users": list(users), "properties": group.properties}
    if identity.allows("read:roles:groups", group=group.name):
        model["roles"] = list(role_names)
    return model


@scoped("list:groups", filtered=True)
@takes(query=("offset", "limit"))
async def get_groups(request: web.Request) -> web.Response:
    """200 the groups that the caller may list, by page."""
    filters = filters_of(_identity(request).scopes, "list:groups")
    if filters is not None and any(kind != "group" for kind, _ in filters):
        raise NotAuthorized("list:groups can be filtered by group only")
    only = None if filters is None else {value for _, value in filters}
    page = paging.asked_page(request)
    async with request.app[DB].read() as db:
        found, total = await store.page_of(db, only=only, offset=page.offset, limit=page.limit)
        models = await _models(request, db, found)
    return paging.paged(request, page, models, total)


@scoped("admin:groups")
@takes(NewGroups)
async def create_groups(request: web.Request) -> web.Response:
    """201 the new groups, all with the same people; 409 when one exists, and then none is made."""
    body = await read(request, NewGroups)
    async with request.app[DB].begin() as db:
        people = await store.people(db, body.users)
        made = [await store.create(db, name) for name in dict.fromkeys(body.groups)]
        for group in made:
            await may_put_in(request, db, group.name, people)
            await store.add(db, group, people)
        models = await _models(request, db, made)
    _told(request, after={"groups": list(body.groups)[:TOLD], "users": list(body.users)[:TOLD]})
    log.info("groups.created", count=len(made))
    return web.json_response(models, status=201)


@scoped("read:groups", "read:groups:name", "read:roles:groups")
async def get_group(request: web.Request) -> web.Response:
    """200 the model with the keys that the caller may see; 404 unknown."""
    async with request.app[DB].read() as db:
        return await _answer(request, db, await _group(request, db))


@scoped("admin:groups")
@takes(NewGroup)
async def create_group(request: web.Request) -> web.Response:
    """201 the new group; 409 when there is one of that name."""
    body = await read(request, NewGroup)
    if body.name not in (None, request.match_info["group"]):
        raise BadRequest("the name of the group stands in the path")
    async with request.app[DB].begin() as db:
        people = await store.people(db, body.users)
        group = await store.create(db, request.match_info["group"])
        await may_put_in(request, db, group.name, people)
        await store.add(db, group, people)
        _told(request, after={"users": list(body.users)[:TOLD]})
        log.info("groups.created", count=1)
        return await _answer(request, db, group, status=201)


@scoped("delete:groups")
async def delete_group(request: web.Request) -> web.Response:
    """204; the people in it stay, without what it gave them. 404 unknown."""
    async with request.app[DB].begin() as db:
        group = await _group(request, db)
        lost = await note_leaving(request, db, group)
        members = (await store.members(db, [group.id]))[group.id]
        _told(request, before={"users": list(members)[:TOLD]})
        await db.delete(group)
    await out.cut(request.app, *lost)
    log.info("groups.deleted")
    return web.Response(status=204)


@scoped("groups")
@takes(People)
async def add_users(request: web.Request) -> web.Response:
    """200 the group with the people added. 400 for a person who does not exist."""
    body = await read(request, People)
    async with request.app[DB].begin() as db:
        group, people = await _group(request, db), await store.people(db, body.users)
        await may_put_in(request, db, group.name, people)
        await store.add(db, group, people)
        _told(request, after={"added": list(body.users)[:TOLD]})
        return await _answer(request, db, group)


@scoped("groups")
@takes(People)
async def remove_users(request: web.Request) -> web.Response:
    """200 the group without these people. 400 for a person who does not exist."""
    body = await read(request, People)
    async with request.app[DB].begin() as db:
        group, people = await _group(request, db), await store.people(db, body.users)
        lost = await note_leaving(request, db, group, people)
        await store.remove(db, group, people)
        _told(request, after={"removed": list(body.users)[:TOLD]})
        answer = await _answer(request, db, group)
    await out.cut(request.app, *lost)
    return answer


@scoped("groups")
@takes(Anything)
async def put_properties(request: web.Request) -> web.Response:
    """200 the group with its properties replaced by the object that was sent; 400 when none was."""
    body = await json_object(request, needed=True)
    async with request.app[DB].begin() as db:
        group = await _group(request, db)
        group.properties = body
        return await _answer(request, db, group)


@scoped("read:groups")
async def get_managers(request: web.Request) -> web.Response:
    """200 the names of who manages the group: they see who is in it, and change that."""
    async with request.app[DB].read() as db:
        return web.json_response(await store.managers(db, await _group(request, db)))


@scoped("admin:groups")
@takes(People)
async def add_managers(request: web.Request) -> web.Response:
    """200 the names of who manages the group now; a manager is in it too. 400 for a person who does not exist."""
    return await _set_managers(request, manager=True)


@scoped("admin:groups")
@takes(People)
async def remove_managers(request: web.Request) -> web.Response:
    """200 the names of who manages the group now; who does no longer stays in it."""
    return await _set_managers(request, manager=False)


async def _set_managers(request: web.Request, *, manager: bool) -> web.Response:
    body = await read(request, People)
    async with request.app[DB].begin() as db:
        group, people = await _group(request, db), await store.people(db, body.users)
        if manager:
            await may_put_in(request, db, group.name, people)
            await store.add(db, group, people)
        await store.set_manager(db, group, people, manager=manager)
        come_in = not manager and managers_come_in(request.app[SETTINGS].rules)
        lost = out.note(db, people=[user.id for user in people] if come_in else ())
        _told(request, after={"managers" if manager else "managers no longer": list(body.users)[:TOLD]})
        names = await store.managers(db, group)
    await out.cut(request.app, lost)
    return web.json_response(names)


def _told(request: web.Request, **change: Any) -> None:
    tell(request, change=change)


async def _models(request: web.Request, db: AsyncSession, groups: Sequence[Group]) -> list[dict[str, Any]]:
    ids, rules = [group.id for group in groups], request.app[SETTINGS].rules
    names = await store.members(db, ids)
    given = await rights.given(db, RoleAssignment.group_id, ids, now=clock.now())
    return [
        group_model(
            group,
            names[group.id],
            _identity(request),
            role_names=sorted({*given[group.id], *rules.of_group(group.name)}),
        )
        for group in groups
    ]


async def _answer(request: web.Request, db: AsyncSession, group: Group, *, status: int = 200) -> web.Response:
    return web.json_response((await _models(request, db, [group]))[0], status=status)


async def _group(request: web.Request, db: AsyncSession) -> Group:
    group = await store.by_name(db, request.match_info["group"])
    if group is None:
        raise NotFound(NO_ACCESS)
    return group


def _identity(request: web.Request) -> Identity:
    identity = request[IDENTITY]
    assert identity is not None
    return identity
