"""The roles part of the REST API, which JupyterHub does not have. Roles of the configuration can only be read."""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from himalia_hub import clock
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.rbac.guard import scoped
from himalia_hub.roles import change
from himalia_hub.roles.schemas import Holders, RoleBody
from himalia_hub.schemas import read, takes


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
    return web.json_response(await change.every(request))


@scoped("read:roles")
async def get_role(request: web.Request) -> web.Response:
    """200 the model; 404 unknown."""
    name, rules = request.match_info["role"], request.app[SETTINGS].rules
    if rules.scopes_of(name) is not None:
        return web.json_response(change.fixed_model(rules, name))
    async with request.app[DB].read() as db:
        return web.json_response(await change.model(db, await change.find(db, name)))


@scoped("admin:roles")
@takes(RoleBody)
async def put_role(request: web.Request) -> web.Response:
    """201 a new role, 200 one that was there, with these scopes from now on; 403 beyond the caller's own rights, 409
    for one of the configuration.
    """
    body = await read(request, RoleBody)
    made, is_new = await change.put(request, request.match_info["role"], body.description, body.scopes)
    return web.json_response(made, status=201 if is_new else 200)


@scoped("admin:roles")
async def delete_role(request: web.Request) -> web.Response:
    """204; who had it has it no longer. 409 for one of the configuration."""
    await change.delete(request, request.match_info["role"])
    return web.Response(status=204)


@scoped("admin:roles")
@takes(Holders)
async def give_role(request: web.Request) -> web.Response:
    """200 the role with its new holders. 403 for a role beyond the caller's own rights, 400 for an unknown name,
    409 for a role of the configuration.
    """
    return await _hand(request, give=True)


@scoped("admin:roles")
@takes(Holders)
async def take_role(request: web.Request) -> web.Response:
    """200 the role without these holders; not having it is fine. 409 for a role of the configuration."""
    return await _hand(request, give=False)


async def _hand(request: web.Request, *, give: bool) -> web.Response:
    body = await read(request, Holders)
    until = clock.now() + timedelta(seconds=body.expires_in) if body.expires_in else None
    holders = {"user": body.users, "group": body.groups, "service": body.services}
    made = await change.hand(request, request.match_info["role"], holders, give=give, until=until)
    return web.json_response(made)
