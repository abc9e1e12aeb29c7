"""Sharing a server from the pages: with whom it is shared, links to send, and the page that such a link opens."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import origin
from himalia_hub.auth.forms import small_form
from himalia_hub.errors import BadRequest, HimaliaError, NotAuthorized, NotFound
from himalia_hub.keys import DB, IDENTITY, SETTINGS
from himalia_hub.pages.paths import redirect, safe_next
from himalia_hub.pages.render import page
from himalia_hub.pages.spawn import target
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.schemas import sentence
from himalia_hub.servers import store as servers
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import ready, server_url
from himalia_hub.settings import HubSettings
from himalia_hub.shares import change, store
from himalia_hub.shares.models import ShareCode
from himalia_hub.shares.schemas import NewShare, NewShareCode, ShareChange
from himalia_hub.shares.view import code_model, with_filter
from himalia_hub.users import store as users
from himalia_hub.users.models import User

RIGHTS = {"open": ["access:servers"], "run": ["access:servers", "servers"]}
"""What the form offers: to open the server, or also to start and stop it."""


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    table = [
        web.get(prefix + "accept-share", show_invitation),
        web.post(prefix + "accept-share", accept),
        web.post(prefix + "home/leave", leave),
    ]
    for path in ("share/{user}", "share/{user}/{server}"):
        table += [web.get(prefix + path, show), web.post(prefix + path, act)]
    return table


@signed_in
async def show(request: web.Request) -> web.Response:
    """200 with whom the server is shared, its links, and forms for more; 404 for who may not share it."""
    return await _page(request)


@signed_in
async def act(request: web.Request) -> web.Response:
    """303 back after `give`, `take` or `unlink`; 200 the page with the link after `link`, for it is shown once."""
    owner, name = target(request, "shares")
    form = await small_form(request)
    try:
        match form.get("action"):
            case "give":
                await _exists(request, owner, name)
                await change.grant(request, owner, name, _new_share(form))
            case "take":
                await change.revoke(request, owner, name, ShareChange(**_with(form)))
            case "link":
                await _exists(request, owner, name)
                wanted = NewShareCode(
                    scopes=_scopes(form), expires_in=int(form.get("expires_in", "")[:10] or 0)
                )
                row, server, code = await change.new_code(request, owner, name, wanted)
                model = code_model(row, server, owner, request.app[SETTINGS], code=code)
                here = f"{origin.scheme(request)}://{request.host}{model['accept_url']}"
                return await _page(request, link=model["full_accept_url"] or here)
            case "unlink":
                await change.delete_codes(request, owner, name, shown_id=form.get("id", "") or "none")
            case _:
                raise BadRequest("The form does not say what to do.", remedy="Reload the page.")
    except ValidationError as error:
        return await _page(request, problem=BadRequest(sentence(error)), typed=form)
    except ValueError:
        return await _page(request, problem=BadRequest("Choose how long the link is good."), typed=form)
    except HimaliaError as problem:
        return await _page(request, problem=problem, typed=form)
    return redirect(request.rel_url.raw_path, status=303)


def _scopes(form: dict[str, str]) -> list[str]:
    return RIGHTS.get(form.get("rights", ""), RIGHTS["open"])


def _with(form: dict[str, str]) -> dict[str, Any]:
    """The person or group of a form: `user` or `group` in `kind`, its name in `name`."""
    name, kind = form.get("name", "").strip(), form.get("kind", "")
    if not name:
        raise BadRequest("A name is needed.")
    return {"group" if kind == "group" else "user": name}


def _new_share(form: dict[str, str]) -> NewShare:
    return NewShare(**_with(form), scopes=_scopes(form))


async def _exists(request: web.Request, owner: str, name: str) -> None:
    """The default server has no row before its first start, and yet can be shared."""
    async with request.app[DB].begin() as db:
        user = await users.by_name(db, owner)
        if user is not None and not name:
            await servers.get_or_create(db, user, name, now=clock.now())


async def _page(
    request: web.Request,
    *,
    problem: HimaliaError | None = None,
    typed: dict[str, str] | None = None,
    link: str = "",
) -> web.Response:
    """`share.html` gets `owner`, `server` (its name), `shares` and `links`, `link` (a new one), `problem`, `typed`."""
    (owner, name), now = target(request, "shares"), clock.now()
    async with request.app[DB].read() as db:
        user = await users.by_name(db, owner)
        server = await servers.find(db, owner, name)
        if user is None or (server is None and name):
            raise NotFound("There is no such server, or it is not yours to see.")
        shares, _ = await store.page_of(db, store.on_server(server), now=now) if server else ([], 0)
        links, _ = await store.codes(db, user, server, now=now) if server else ([], 0)
    return await page(
        request,
        "share.html",
        status=problem.status if problem else 200,
        owner=owner,
        server=name,
        shares=[
            {"kind": "group" if one.group else "user", "name": one.group or one.user}
            | {"rights": one.row.scopes, "since": one.row.created, "until": one.row.expires_at}
            for one in shares
        ],
        links=[
            {"id": f"sc_{row.id}", "rights": row.scopes, "until": row.expires_at, "used": row.exchange_count}
            for row, _ in links
        ],
        link=link,
        problem=problem,
        typed=typed or {},
    )


# ------------------------------------------------------------------ the other side


async def shared_with(db: AsyncSession, user_id: int, settings: HubSettings) -> list[dict[str, Any]]:
    """What others share with a person, for their home page: `owner`, `server`, `url`, `ready`, `group` it came by."""
    user = await db.get_one(User, user_id)
    shared, _ = await store.page_of(db, store.with_user(user, by_group=True), now=clock.now())
    return [
        {
            "owner": one.owner,
            "server": one.server.name,
            "url": server_url(settings, one.owner, one.server.name),
            "ready": ready(one.server),
            "group": one.group,
        }
        for one in shared
        if "access:servers" in one.row.scopes and one.owner != user.name
    ]


@signed_in
async def show_invitation(request: web.Request) -> web.Response:
    """200 the question whether to accept; 404 for a code that is unknown or over, 403 for one's own server."""
    code = request.query.get("code", "")
    found = await _invitation(request, code)
    if found is None:
        raise NotFound("This link is not known, or its time is over.", remedy="Ask who sent it for another.")
    row, server, owner = found
    if owner.id == _identity(request).user_id:
        raise NotAuthorized("This is your own server.", remedy="Send the link to somebody else.")
    settings = request.app[SETTINGS]
    return await page(
        request,
        "accept-share.html",
        code=code,
        owner=owner.name,
        server=server.name,
        server_url=server_url(settings, owner.name, server.name),
        server_ready=ready(server),
        rights=[
            {"name": scope, "description": settings.rules.describe(scope)}
            for scope in with_filter(row.scopes, owner.name, server.name)
        ],
    )


@signed_in
async def accept(request: web.Request) -> web.Response:
    """302 to the server, or to `next`; 400 for a code that is unknown or over, or of one's own server."""
    form = await small_form(request)
    found = await _invitation(request, form.get("code", ""))
    if found is None:
        raise BadRequest(
            "This link is not known, or its time is over.", remedy="Ask who sent it for another."
        )
    row, server, owner = found
    identity = _identity(request)
    if owner.id == identity.user_id:
        raise BadRequest("This is your own server.")
    async with request.app[DB].begin() as db:
        user = await db.get_one(User, identity.person)
        await store.exchange(db, row, server, user, now=clock.now())
    tell(
        request,
        target_user=owner.name,
        target=server.name,
        change={"after": {"accepted": f"sc_{row.id}", "scopes": row.scopes}},
    )
    after = safe_next(request, form.get("next"))
    return redirect(after or server_url(request.app[SETTINGS], owner.name, server.name))


@signed_in
async def leave(request: web.Request) -> web.Response:
    """303 back to the home page; what `owner` shared, the `server`, is shared no longer."""
    form = await small_form(request)
    async with request.app[DB].read() as db:
        user = await db.get_one(User, _identity(request).person)
    await change.leave(request, user, form.get("owner", ""), form.get("server", ""))
    return redirect(request.app[SETTINGS].hub_prefix + "home", status=303)


async def _invitation(request: web.Request, code: str) -> tuple[ShareCode, Server, User] | None:
    async with request.app[DB].read() as db:
        return await store.find_code(db, code, now=clock.now())


def _identity(request: web.Request) -> Identity:
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # signed_in
    return identity
