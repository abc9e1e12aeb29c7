"""The services part of the REST API. Only services that others run can be made here."""

from __future__ import annotations

import re
from collections.abc import Collection

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import out
from himalia_hub.errors import BadRequest, Conflict, HimaliaError, NotAuthorized, NotFound
from himalia_hub.keys import DB, IDENTITY, ROUTES_WAKE_UP, SETTINGS
from himalia_hub.rbac import expand, rights
from himalia_hub.rbac.expand import filters_of
from himalia_hub.rbac.guard import NO_ACCESS, scoped
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.models import RoleAssignment
from himalia_hub.rbac.roles import ADMIN
from himalia_hub.rbac.rules import Rules
from himalia_hub.schemas import read, takes
from himalia_hub.services import store
from himalia_hub.services.models import Service
from himalia_hub.services.schemas import NewService
from himalia_hub.services.settings import CLIENT_PREFIX, NAME
from himalia_hub.services.sync import note_end
from himalia_hub.services.view import service_model
from himalia_hub.tokens import store as tokens

log = structlog.get_logger()

KEPT_FIELDS = (
    "admin", "url", "info", "display", "oauth_redirect_uri", "oauth_client_allowed_scopes", "oauth_no_confirm",
)  # fmt: skip


class FromConfiguration(HimaliaError):
    """The service stands in the configuration, and is removed there."""

    status = 405
    code = "from-configuration"


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    one = prefix + "api/services/{service}"
    return [
        web.get(prefix + "api/services", get_services),
        web.get(one, get_service),
        web.post(one, create_service),
        web.delete(one, delete_service),
    ]


@scoped("list:services", filtered=True)
async def get_services(request: web.Request) -> web.Response:
    """200 an object of name to model: the services that the caller may list."""
    identity = _identity(request)
    filters = filters_of(identity.scopes, "list:services")
    if filters is not None and any(kind != "service" for kind, _ in filters):
        raise NotAuthorized("list:services can be filtered by service only")
    only = None if filters is None else {value for _, value in filters}
    async with request.app[DB].read() as db:
        found = await store.all_of(db, only)
        names = await _roles(db, found)
    settings = request.app[SETTINGS]
    return web.json_response(
        {row.name: service_model(row, identity, settings, role_names=names[row.id]) for row in found}
    )


@scoped("read:services", "read:services:name", "read:roles:services")
async def get_service(request: web.Request) -> web.Response:
    """200 the model with the keys that the caller may see; 404 unknown."""
    async with request.app[DB].read() as db:
        row = await _service(db, request)
        names = await _roles(db, [row])
    model = service_model(row, _identity(request), request.app[SETTINGS], role_names=names[row.id])
    return web.json_response(model)


@scoped("admin:services")
@takes(NewService)
async def create_service(request: web.Request) -> web.Response:
    """201 the new service, routed at once; it is not waited for. 409 when there is one of that name.

    Rights that the caller does not hold cannot be given to it, nor be asked for by it: 400 or 403.
    """
    name, body = request.match_info["service"], await read(request, NewService)
    _check(name, body, _identity(request), request.app[SETTINGS].rules)
    asks_people = bool(
        body.url or body.oauth_redirect_uri or body.oauth_client_id or body.oauth_client_allowed_scopes
    )
    client_id = (body.oauth_client_id or CLIENT_PREFIX + name) if asks_people else None
    async with request.app[DB].begin() as db:
        if await store.by_name(db, name) is not None:
            raise Conflict(f"service {name!r} exists already")
        if client_id and await store.client_id_taken(db, client_id):
            raise Conflict(f"another service is the OAuth client {client_id!r}")
        row = Service(name=name, oauth_client_id=client_id, command=[], pid=0, from_config=False)
        for field in KEPT_FIELDS:
            setattr(row, field, getattr(body, field))
        db.add(row)
        await db.flush()
        await tokens.put_service_token(db, service_id=row.id, secret=body.api_token, now=clock.now())
    told = {"admin": row.admin, "oauth_client_allowed_scopes": row.oauth_client_allowed_scopes}
    tell(request, change={"after": told | {"oauth_no_confirm": row.oauth_no_confirm}})
    request.app[ROUTES_WAKE_UP].set()
    log.info("service.created", name=name)
    return web.json_response(service_model(row, _identity(request), request.app[SETTINGS]), status=201)


@scoped("admin:services")
async def delete_service(request: web.Request) -> web.Response:
    """200, empty, as in JupyterHub; its token, route and sign-ins end. 405 for one of the configuration."""
    async with request.app[DB].begin() as db:
        row = await _service(db, request)
        if row.from_config:
            raise FromConfiguration(
                f"service {row.name!r} stands in the configuration", remedy="remove it there"
            )
        gone = await note_end(db, request.app[SETTINGS], row)
        tell(request, change={"before": {"admin": row.admin}})
        await db.delete(row)
    request.app[ROUTES_WAKE_UP].set()
    await out.cut(request.app, *gone)
    log.info("service.deleted", name=row.name)
    return web.Response()


def _check(name: str, body: NewService, identity: Identity, rules: Rules) -> None:
    if not body.model_fields_set:
        raise BadRequest("say something of the service, such as its url or its api_token")
    if not re.fullmatch(NAME, name) or body.name not in (None, name):
        raise BadRequest(
            f"{(body.name or name)[:80]!r} cannot be the name of this service",
            remedy="the name in the path: letters, digits, dots, dashes, underscores",
        )
    if body.command or body.cwd or body.environment or body.user:
        raise BadRequest("a service that the hub runs stands in its configuration", remedy="[[services]]")
    if body.admin and not identity.is_whole_admin:
        raise NotAuthorized("only an administrator, with all rights, can make a service one")
    for scope in body.oauth_client_allowed_scopes:
        rules.check(scope)
        everything = scope == "inherit"
        raw = ADMIN if everything else (scope,)
        if not identity.may_give(expand.expand(raw, identity.person_name, custom=rules.custom)):
            raise BadRequest(f"you do not hold the scope {scope!r}, so no service can be allowed it")


async def _roles(db: AsyncSession, rows: Collection[Service]) -> dict[int, list[str]]:
    ids = [row.id for row in rows]
    return await rights.given(db, RoleAssignment.service_id, ids, now=clock.now())


async def _service(db: AsyncSession, request: web.Request) -> Service:
    row = await store.by_name(db, request.match_info["service"])
    if row is None:
        raise NotFound(NO_ACCESS)
    return row


def _identity(request: web.Request) -> Identity:
    identity = request[IDENTITY]
    assert identity is not None  # the guard let it through
    return identity
