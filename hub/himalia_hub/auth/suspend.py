"""Suspending people: out everywhere at once, back with everything when it is lifted."""

from __future__ import annotations

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import accounts, out, second
from himalia_hub.errors import BadRequest, NotAuthorized, NotFound
from himalia_hub.keys import DB, DOORBELL, IDENTITY
from himalia_hub.rbac.guard import NO_ACCESS, scoped
from himalia_hub.rbac.identity import Identity
from himalia_hub.servers import store as servers
from himalia_hub.users import store as users
from himalia_hub.users.models import Login, User

log = structlog.get_logger()


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    one = prefix + "api/users/{user}"
    return [
        web.put(one + "/suspension", suspend),
        web.delete(one + "/suspension", lift),
        web.delete(one + "/second-step", second_step_off),
    ]


@scoped("admin:users")
async def suspend(request: web.Request) -> web.Response:
    """204; signed out everywhere, tokens refused, WebSockets cut, servers stopping. Repeating it is harmless."""
    await put_out(request, request.match_info["user"])
    return web.Response(status=204)


async def put_out(request: web.Request, name: str) -> None:
    """Suspend this person: NotFound, NotAuthorized, BadRequest for oneself."""
    async with request.app[DB].begin() as db:
        user = await _touchable(request, db, name)
        if user.suspended is None:
            user.suspended = clock.now()
        logins = list(await db.scalars(sa.select(Login).where(Login.user_id == user.id)))
        ended = [await db.run_sync(accounts.end_login, login) for login in logins]
        ended.append(accounts.Ended(tokens=await accounts.tokens_of(db, [user.id])))
        gone = out.note(db, ended)
        theirs = await servers.list_for_user(db, user.id)
        for server in theirs:
            await servers.want_stopped(db, server, now=clock.now())
    for server in theirs:
        request.app[DOORBELL].ring(server.id)
    await out.cut(request.app, gone)
    tell(request, change={"after": {"suspended": True, "sign_ins_ended": len(logins)}})
    log.info("user.suspended", target=user.name)


@scoped("admin:users")
async def lift(request: web.Request) -> web.Response:
    """204; the person may sign in again; tokens of their own count again."""
    await let_in(request, request.match_info["user"])
    return web.Response(status=204)


async def let_in(request: web.Request, name: str) -> None:
    """End a suspension, with the errors of `put_out`."""
    async with request.app[DB].begin() as db:
        user = await _touchable(request, db, name)
        user.suspended = None
    tell(request, change={"after": {"suspended": False}})
    log.info("user.suspension_lifted", target=user.name)


@scoped("admin:users")
async def second_step_off(request: web.Request) -> web.Response:
    """204; for who lost both the app and the recovery codes: the password alone lets them in again."""
    await forget_second_step(request, request.match_info["user"])
    return web.Response(status=204)


async def forget_second_step(request: web.Request, name: str) -> None:
    """Turn a person's second step off, with the errors of `put_out`."""
    async with request.app[DB].begin() as db:
        user = await _touchable(request, db, name)
        await second.turn_off(db, user.id)
    tell(request, change={"after": {"second_step": "off"}})
    log.info("second_step.off", target=user.name)


async def _touchable(request: web.Request, db: AsyncSession, name: str) -> User:
    """The person of this name. Nobody does this to themselves, nor to somebody above them."""
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # the guard let it through
    user = await users.by_name(db, name)
    if user is None:
        raise NotFound(NO_ACCESS)
    if user.id == identity.user_id:
        raise BadRequest("nobody can do this to their own account", remedy="ask another administrator")
    if user.admin and not identity.is_whole_admin:
        raise NotAuthorized("only an administrator, with all rights, can do this to one")
    return user
