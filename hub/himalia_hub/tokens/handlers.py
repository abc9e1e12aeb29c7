"""The tokens part of the REST API. A token's secret is shown once, when it is made."""

from __future__ import annotations

from datetime import timedelta

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import origin, out, second
from himalia_hub.auth.door import DOOR, sign_in_by_password
from himalia_hub.auth.vault import VAULT
from himalia_hub.errors import BadRequest, NotAuthorized, NotFound
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.rbac import expand, rights
from himalia_hub.rbac.guard import NO_ACCESS, public, require, scoped
from himalia_hub.rbac.identity import Identity, of_person
from himalia_hub.rbac.rights import Rights
from himalia_hub.rbac.roles import TOKEN
from himalia_hub.rbac.rules import Rules
from himalia_hub.roles import store as roles
from himalia_hub.schemas import read, takes
from himalia_hub.tokens import store
from himalia_hub.tokens.models import ApiToken
from himalia_hub.tokens.schemas import Credentials, NewToken
from himalia_hub.tokens.view import token_model
from himalia_hub.users import store as users
from himalia_hub.users.models import User

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    every = prefix + "api/users/{user}/tokens"
    return [
        web.get(every, list_tokens),
        web.post(every, create_token),
        web.get(every + "/{id}", get_token),
        web.delete(every + "/{id}", delete_token),
    ]


@scoped("read:tokens")
async def list_tokens(request: web.Request) -> web.Response:
    """200 `{"api_tokens": […]}`; expired ones are purged first."""
    rules = request.app[SETTINGS].rules
    async with request.app[DB].begin() as db:
        owner = await _owner(db, request.match_info["user"])
        await store.purge_expired(db, now=clock.now())
        rows = await store.list_for_user(db, owner.id)
        names = await store.server_names(db, rows)
        theirs = await rights.of_user(db, owner, rules, now=clock.now())
    models = [token_model(row, owner, theirs, rules, _server(row, owner, names)) for row in rows]
    return web.json_response({"api_tokens": models})


@public
@takes(NewToken)
async def create_token(request: web.Request) -> web.Response:
    """201 the model with `token`. Without credentials, `auth` with a name and password makes one's own.

    An unknown person and a missing right are both 403, so that names cannot be tried out here.
    """
    body = await read(request, NewToken)
    if request.get(IDENTITY) is None and body.auth is not None:
        user = await _who_signs_in(request, body.auth)
        if user.name != request.match_info["user"]:
            raise NotAuthorized("the name and password are not those of this user")
        async with request.app[DB].read() as db:
            own = await rights.of_user(db, user, request.app[SETTINGS].rules, now=clock.now())
        identity = of_person(user, own)
        tell(request, actor=user.name)
    else:
        identity = require(request, "tokens", outside=403)
    rules = request.app[SETTINGS].rules
    async with request.app[DB].begin() as db:
        owner = await users.by_name(db, request.match_info["user"])
        if owner is None:
            raise NotAuthorized(NO_ACCESS)
        raw = await _raw_scopes(db, body, rules)
        theirs = await rights.of_user(db, owner, rules, now=clock.now())
        if body.scopes is None and body.roles is None and not _is_above(owner, identity):
            raw = _as_far_as(raw, owner.name, theirs, identity, rules)
        may_issue(raw, owner.name, theirs, identity, rules)
        row, secret = await store.issue(
            db,
            owner.id,
            now=clock.now(),
            scopes=raw,
            note=_note(body, owner, identity),
            expires_in=_lasts(body, request.app[SETTINGS].auth.token_max_age_s),
        )
    tell(request, target=f"a{row.id}", change={"after": {"scopes": raw}})
    log.info("token.created", owner=owner.name, token_id=row.id, scopes=raw)
    return web.json_response(token_model(row, owner, theirs, rules) | {"token": secret}, status=201)


@scoped("read:tokens")
async def get_token(request: web.Request) -> web.Response:
    """200 the model; 404 for what is not a token of this person."""
    rules = request.app[SETTINGS].rules
    async with request.app[DB].read() as db:
        row, owner = await _find(db, request)
        names = await store.server_names(db, [row])
        theirs = await rights.of_user(db, owner, rules, now=clock.now())
    return web.json_response(token_model(row, owner, theirs, rules, _server(row, owner, names)))


@scoped("tokens")
async def delete_token(request: web.Request) -> web.Response:
    """204; one that a server was issued goes with all of this person's tokens for the same server; the open WebSockets
    of the sign-ins that they came from, and those opened with it, are cut.
    """
    async with request.app[DB].begin() as db:
        row, owner = await _find(db, request)
        gone = out.note(db, await store.revoke(db, row))
    await out.cut(request.app, gone)
    log.info("token.deleted", owner=owner.name, token_id=row.id)
    return web.Response(status=204)


async def _who_signs_in(request: web.Request, given: Credentials) -> User:
    database, address = request.app[DB], origin.address(request)
    try:
        return await sign_in_by_password(
            database, request.app[DOOR], given.username, given.password, method=given.method, address=address
        )
    except second.CodeNeeded as needed:
        if not given.otp:
            raise
        await second.check(database, request.app[VAULT], needed.user.id, given.otp, address=address)
        return needed.user


async def _raw_scopes(db: AsyncSession, body: NewToken, rules: Rules) -> list[str]:
    """What the new token shall carry; BadRequest for names that are not known.

    An empty list is no rights at all, and not those of a token whose maker says nothing of rights.
    """
    if body.scopes is not None and body.roles is not None:
        raise BadRequest("send scopes or roles, not both")
    if body.scopes is None and body.roles is None:
        return list(rules.scopes_of("token") or TOKEN)
    wanted = list(body.scopes or ())
    for name in body.roles or ():
        given = rules.scopes_of(name)
        if given is None and (row := await roles.by_name(db, name)) is not None:
            given = tuple(row.scopes)
        if given is None:
            raise BadRequest(f"unknown role {name[:80]!r}")
        wanted += given
    for scope in wanted:
        if len(scope) > 600:
            raise BadRequest(f"unknown scope {scope[:80]!r}")
        rules.check(scope)
    return list(dict.fromkeys(wanted))


def _is_above(owner: User, identity: Identity) -> bool:
    """Of an administrator nobody else gets a token by accident: its rights are to be named."""
    return owner.admin and owner.id != identity.user_id and not identity.is_whole_admin


def _as_far_as(raw: list[str], owner: str, theirs: Rights, identity: Identity, rules: Rules) -> list[str]:
    """What a token is given whose maker names no rights: those that it has by default, as far as its maker holds them
    too. Programs written for JupyterHub name none, and may not give more than they hold for that.
    """
    wanted = theirs.scopes if "inherit" in raw else expand.expand(tuple(raw), owner, custom=rules.custom)
    if identity.may_give(wanted):
        return raw
    return sorted(expand.intersect(wanted, identity.scopes, {**theirs.members, **identity.members}))


def may_issue(raw: list[str], owner: str, theirs: Rights, identity: Identity, rules: Rules) -> None:
    """A token carries no right that its owner lacks (400), nor one that who asks for it may not give (403)."""
    wanted: set[str] = set()
    for scope in raw:
        expanded = (
            theirs.scopes if scope == "inherit" else expand.expand((scope,), owner, custom=rules.custom)
        )
        if not expand.covers_all(theirs.scopes, expanded, theirs.members):
            raise BadRequest(f"{owner} does not hold the scope {scope!r}")
        wanted |= expanded
    if not identity.may_give(wanted):
        raise NotAuthorized("a token cannot be given more rights than you hold; name its scopes")


def _lasts(body: NewToken, most_s: int) -> timedelta | None:
    """How long the new token is good; None for ever, where that is allowed."""
    seconds = body.expires_in or most_s
    if most_s and seconds > most_s:
        raise BadRequest(f"expires_in is {seconds}; {most_s} seconds are the most", remedy="ask for less")
    return timedelta(seconds=seconds) if seconds else None


def _note(body: NewToken, owner: User, identity: Identity) -> str:
    if body.note:
        return body.note
    by = f" by {'service' if identity.user_id is None else 'user'} {identity.name}"
    return "Requested via api" + ("" if owner.id == identity.user_id else by)


async def _owner(db: AsyncSession, name: str) -> User:
    owner = await users.by_name(db, name)
    if owner is None:
        raise NotFound(NO_ACCESS)
    return owner


async def _find(db: AsyncSession, request: web.Request) -> tuple[ApiToken, User]:
    owner = await _owner(db, request.match_info["user"])
    number = request.match_info["id"].removeprefix("a")
    row = None
    if (
        request.match_info["id"].startswith("a")
        and number.isascii()
        and number.isdigit()
        and len(number) < 10
    ):
        row = await db.get(ApiToken, int(number))
    expired = row is not None and row.expires_at is not None and row.expires_at <= clock.now()
    if row is None or row.user_id != owner.id or expired:
        raise NotFound(f"there is no token {request.match_info['id'][:40]!r}")
    return row, owner


def _server(row: ApiToken, owner: User, names: dict[int, str]) -> str | None:
    return f"{owner.name}/{names[row.server_id]}" if row.server_id in names else None
