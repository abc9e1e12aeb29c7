"""Quotas and use in the REST API."""

from __future__ import annotations

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.errors import NotFound
from himalia_hub.groups import store as groups
from himalia_hub.groups.models import Group
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.rbac.guard import scoped
from himalia_hub.rbac.identity import Identity
from himalia_hub.schemas import read, takes
from himalia_hub.usage import store
from himalia_hub.usage.schemas import QuotaBody, standing_model
from himalia_hub.users import changes
from himalia_hub.users import store as users
from himalia_hub.users.models import User


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    user, group = prefix + "api/users/{user}", prefix + "api/groups/{group}"
    return [
        web.get(user + "/usage", usage_of_user),
        web.put(user + "/quota", set_quota_of_user),
        web.delete(user + "/quota", drop_quota_of_user),
        web.get(group + "/usage", usage_of_group),
        web.put(group + "/quota", set_quota_of_group),
        web.delete(group + "/quota", drop_quota_of_group),
    ]


@scoped("read:users")
async def usage_of_user(request: web.Request) -> web.Response:
    """200 what this person may use and uses, and the same of their `groups` that have limits."""
    async with request.app[DB].read() as db:
        user = await _user(request, db)
        own, *shared = await store.standings(db, request.app[SETTINGS], user, now=clock.now())
    period = request.app[SETTINGS].quotas.period
    more = {"period": period, "groups": {one.group: standing_model(one) for one in shared}}
    return web.json_response(standing_model(own) | more)


@scoped("read:groups")
async def usage_of_group(request: web.Request) -> web.Response:
    """200 what the members of this group may use together, and use."""
    async with request.app[DB].read() as db:
        standing = await store.of_group(db, request.app[SETTINGS], await _group(request, db), now=clock.now())
    return web.json_response(standing_model(standing) | {"period": request.app[SETTINGS].quotas.period})


@scoped("admin:users")
@takes(QuotaBody)
async def set_quota_of_user(request: web.Request) -> web.Response:
    """200 what this person may use and uses from now on; it counts at their next start."""
    body = await read(request, QuotaBody)
    async with request.app[DB].begin() as db:
        await store.set_quota(db, await _touchable(request, db), body.model_dump())
    tell(request, change={"after": body.model_dump()})
    return await usage_of_user(request)


@scoped("admin:users")
async def drop_quota_of_user(request: web.Request) -> web.Response:
    """204: the configuration decides again."""
    async with request.app[DB].begin() as db:
        await store.set_quota(db, await _touchable(request, db), None)
    return web.Response(status=204)


@scoped("admin:groups")
@takes(QuotaBody)
async def set_quota_of_group(request: web.Request) -> web.Response:
    """200 what the members of this group may use together from now on."""
    body = await read(request, QuotaBody)
    async with request.app[DB].begin() as db:
        await store.set_quota(db, await _group(request, db), body.model_dump())
    tell(request, change={"after": body.model_dump()})
    return await usage_of_group(request)


@scoped("admin:groups")
async def drop_quota_of_group(request: web.Request) -> web.Response:
    """204: the configuration decides again."""
    async with request.app[DB].begin() as db:
        await store.set_quota(db, await _group(request, db), None)
    return web.Response(status=204)


async def _user(request: web.Request, db: AsyncSession) -> User:
    name = request.match_info["user"]
    user = await users.by_name(db, name)
    if user is None:
        raise NotFound(f"there is no user {name!r}")
    return user


async def _touchable(request: web.Request, db: AsyncSession) -> User:
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # the guard let it through
    user = await _user(request, db)
    changes.may_touch(identity, user)
    return user


async def _group(request: web.Request, db: AsyncSession) -> Group:
    name = request.match_info["group"]
    group = await groups.by_name(db, name)
    if group is None:
        raise NotFound(f"there is no group {name!r}")
    return group
