"""The servers part of the REST API: handlers write a wish, wait a little, and answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.body import json_object
from himalia_hub.errors import BadRequest, Conflict, NotFound, SpawnProblem
from himalia_hub.faults import async_fault, fault
from himalia_hub.groups import store as groups
from himalia_hub.keys import DB, DOORBELL, IDENTITY, MEMO, SETTINGS, WORLD
from himalia_hub.profiles.choice import checked_options
from himalia_hub.rbac.guard import scoped
from himalia_hub.rbac.touch import TOUCHES
from himalia_hub.schemas import Anything, takes
from himalia_hub.servers import queue, store
from himalia_hub.servers.activity import report_activity
from himalia_hub.servers.asking import ask
from himalia_hub.servers.limits import (
    check_name,
    check_named,
    checked_display_name,
    must_be_startable,
    needs_name,
)
from himalia_hub.servers.models import Server
from himalia_hub.servers.progress import LOOK_S, progress
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.view import pending, ready, server_model, stopped
from himalia_hub.users import store as users
from himalia_hub.users.models import User

SAFE_MODE = "X-Himalia-Safe-Mode"
WHEN_FULL = "X-Himalia-When-Full"
"""Request header of a start; `refuse` asks for JupyterHub's 429 where the start would have to wait."""
START_KEYS = {"user_options", "display_name"}
CHANGE_KEYS = START_KEYS | {"name"}


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    user = prefix + "api/users/{user}"
    both = [user + "/server", user + "/servers/{server}", user + "/servers/"]
    table: list[web.RouteDef] = [web.post(user + "/activity", report_activity)]
    for path in both:
        table += [web.put(path, create_server), web.patch(path, change_server)]
    for path in both:
        table += [
            web.get(path, get_server),
            web.post(path, start_server),
            web.delete(path, stop_server),
            web.get(path.rstrip("/") + "/progress", progress)
            if path != both[2]
            else web.get(path + "progress", progress),
        ]
    return table


@scoped("read:servers")
async def get_server(request: web.Request) -> web.Response:
    """200 the server model; 404 unknown."""
    _, server = await _find(request)
    identity, (username, name) = request[IDENTITY], _names(request)
    state_too = identity is not None and identity.allows("admin:server_state", user=username, server=name)
    return web.json_response(await _model(request, server, username, state_too=state_too))


@scoped("start:servers")
@takes(Anything)
async def start_server(request: web.Request) -> web.Response:
    """Wish that it runs. 201 when it is ready within `slow_start_s`, else 202 with the start under way or waiting.

    The body is `user_options` and `display_name`, or else the options themselves; empty: the last ones. 400 when it
    runs, 409 while it stops, 429 at a limit that no waiting ends, and at any with the header `X-Himalia-When-Full:
    refuse`; 500 with the cause when the start fails, 503 during maintenance. With the header `X-Himalia-Safe-Mode: 1`
    the server has a home of its own, and serves the person's files.
    """
    options, display_name = await _start_body(request)
    username, name = _names(request)
    settings = request.app[SETTINGS].servers
    refuse = request.headers.get(WHEN_FULL, "").strip().lower() == "refuse"

    async def wish(db: AsyncSession) -> Server:
        user, server = await store.find_with_user(db, username, name)
        if user is None:
            raise NotFound(f"there is no user {username!r}")
        must_be_startable(server)
        if server is None or pending(server) != "spawn":
            safe = request.headers.get(SAFE_MODE, "").strip() == "1"
            server = await ask(
                db, request.app[SETTINGS], user, name, server, options,
                refuse_when_full=refuse, safe_mode=safe, display_name=display_name,
            )  # fmt: skip
        elif display_name is not None:
            server.display_name = display_name
        fault("wish.before_commit")
        return server

    server = await request.app[DB].begin_in_one(wish)
    await async_fault("wish.after_commit")
    request.app[DOORBELL].ring(server.id)
    # Also when a program starts it for them: who culls people goes by this (JupyterHub's rule).
    request.app[TOUCHES].person(server.user_id, clock.now())
    generation = server.generation
    server = await wait_until(
        request.app, server, lambda row: ready(row) or _failed(row, generation), settings.slow_start_s
    )
    if _failed(server, generation):
        failure = server.failure or {}
        raise SpawnProblem(
            f"The server {failure.get('cause', 'failed')}: {failure.get('message', 'no reason was recorded')}",
            log_tail=tuple(failure.get("log_tail", ())),
        )
    model = await _model(request, server, username)
    return web.json_response(model, status=201 if ready(server) else 202)


@scoped("delete:servers")
@takes(Anything)
async def stop_server(request: web.Request) -> web.Response:
    """Wish that it is gone, and what waits since it crashed. 204 when it is within `slow_stop_s`, else 202.

    `{"remove": true}` deletes a named server as well.
    """
    body = await json_object(request)
    remove = body.get("remove", False)
    if not isinstance(remove, bool):
        raise BadRequest(f"remove is {remove!r}; it must be true or false")
    username, name = _names(request)
    if remove and not name:
        raise BadRequest("the default server cannot be removed", remedy="stop it without `remove`")
    async with request.app[DB].begin() as db:
        await _user(db, username)
        server = await store.find(db, username, name)
        if server is None and name:
            if not request.app[SETTINGS].servers.allow_named:
                check_name(name, request.app[SETTINGS].servers)  # 400, as there are no named servers at all
            raise NotFound(f"{username} has no server named {name!r}")
        if server is None:
            return web.Response(status=204)
        waits = store.kept_until(server.failure, now=clock.now()) is not None
        if stopped(server) and not remove and not waits:
            return web.Response(status=204)
        await store.want_stopped(db, server, now=clock.now(), doomed=remove)
        await async_fault("wish.before_commit")
    await async_fault("wish.after_commit")
    request.app[DOORBELL].ring(server.id)
    gone = await wait_until(
        request.app, server, stopped, request.app[SETTINGS].servers.slow_stop_s, until_gone=remove
    )
    return web.Response(status=204 if gone.phase is Phase.STOPPED or stopped(gone) else 202)


@scoped("start:servers")
@takes(Anything)
async def create_server(request: web.Request) -> web.Response:
    """PUT: make a named server without starting it. 201; 409 when there is one, as there always is a default one."""
    options, display_name = await _start_body(request)
    username, name = _names(request)
    needs_name(name)
    check_name(name, request.app[SETTINGS].servers)
    async with request.app[DB].begin() as db:
        user = await _user(db, username)
        await check_named(db, user, name, request.app[SETTINGS].servers)
        options = await _offered_options(request, db, user, options)
        said = {"user_options": options or {}, "display_name": display_name or ""}
        server = await store.create(db, user, name, said, now=clock.now())
        if server is None:
            raise Conflict(f"{username} has a server named {name!r} already")
    return web.json_response(server_model(server, username, request.app[SETTINGS]), status=201)


@scoped("start:servers")
@takes(Anything)
async def change_server(request: web.Request) -> web.Response:
    """PATCH `{name?, display_name?, user_options?}` of a stopped server: 200 the model.

    400 when it is active, when nothing or something unknown is to change; 404 unknown; 409 when the new name is taken.
    The default one can get a name, where there may be one more; there is a new default one then.
    """
    body = await json_object(request)
    unknown = set(body) - CHANGE_KEYS
    if unknown or not body:
        raise BadRequest(
            f"unknown fields {sorted(unknown)}" if unknown else "nothing to change",
            remedy=f"send one or more of {', '.join(sorted(CHANGE_KEYS))}",
        )
    username, name = _names(request)
    if "user_options" in body and body["user_options"] is None:
        raise BadRequest("user_options is null; it must be an object")
    options, display_name = _options(body)
    async with request.app[DB].begin() as db:
        server = await store.find(db, username, name)
        if server is None and name:
            raise NotFound(f"{username} has no server named {name!r}")
        server = server or await store.get_or_create(db, await _user(db, username), "", now=clock.now())
        if not stopped(server):
            raise BadRequest(f"the server {name or 'default'!r} is active", remedy="stop it first")
        options = await _offered_options(request, db, await _user(db, username), options)
        before = {"name": name, "display_name": server.display_name}
        server.user_options = server.user_options if options is None else options
        server.display_name = server.display_name if display_name is None else display_name
        new = body.get("name")
        if new is not None and new != name:
            if not isinstance(new, str):
                raise BadRequest(f"name is {new!r}; it must be a text")
            needs_name(new)
            # Who names the default server has one named server more.
            settings = request.app[SETTINGS].servers
            await check_named(db, await _user(db, username), new, settings, instead_of=name)
            await store.rename(db, server, new)
        after = {"name": server.name, "display_name": server.display_name}
        tell(request, change={"before": before, "after": after})
    request.app[DOORBELL].tell(server.id)
    return web.json_response(server_model(server, username, request.app[SETTINGS]))


async def wait_until(
    app: web.Application,
    server: Server,
    done: Callable[[Server], bool],
    at_most_s: float,
    *,
    until_gone: bool = False,
) -> Server:
    """The row once `done(row)`, or as it is when the time is over or this hub ends.

    Woken by the bell, with a look every few seconds.
    `server` is the row as just written. With `until_gone` a deleted row counts as done.
    """
    deadline = time.monotonic() + at_most_s
    if done(server) and not until_gone:
        return server
    with app[DOORBELL].watch(server.id, only_the_end=True) as watch:
        while True:
            await watch.wait(min(max(0, deadline - time.monotonic()), LOOK_S))
            row, watch.row = watch.row, None
            if row is None or row.generation < server.generation:  # it came with the end of an earlier wish
                row = await app[DB].read_in_one(partial(store.by_id, server_id=server.id))
            if row is None:
                server.phase, server.desired = Phase.STOPPED, Desired.STOPPED
                return server
            left = deadline - time.monotonic()
            if (done(row) and not until_gone) or left <= 0 or app[WORLD].together.leaving.is_set():
                return row


async def _model(
    request: web.Request, server: Server, username: str, *, state_too: bool = False
) -> dict[str, Any]:
    """JupyterHub's model, with the `place` in the queue of a start that waits for one."""
    model = server_model(server, username, request.app[SETTINGS], state_too=state_too)
    if server.queued_at is not None:
        model["place"] = (await queue.places(request.app[MEMO], request.app[SETTINGS].servers)).get(server.id)
    return model


def _failed(server: Server, generation: int) -> bool:
    return (
        server.generation == generation and server.phase is Phase.FAILED and server.desired is Desired.STOPPED
    )


def _names(request: web.Request) -> tuple[str, str]:
    return request.match_info["user"], request.match_info.get("server", "")


async def _user(db: Any, username: str) -> User:
    user = await users.by_name(db, username)
    if user is None:
        raise NotFound(f"there is no user {username!r}")
    return user


async def _find(request: web.Request) -> tuple[User, Server]:
    username, name = _names(request)
    async with request.app[DB].read() as db:
        user = await _user(db, username)
        server = await store.find(db, username, name)
    if server is None and name:
        raise NotFound(f"{username} has no server named {name!r}")
    return user, server or store.unstarted(user.id)


async def _offered_options(
    request: web.Request, db: Any, user: User, options: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The options, when this person may choose them."""
    return checked_options(request.app[SETTINGS], await groups.of_user(db, user.id), options)


async def _start_body(request: web.Request) -> tuple[dict[str, Any] | None, str | None]:
    body = await json_object(request)
    if not body:
        return None, None
    if not set(body) & START_KEYS:
        return body, None  # the form before JupyterHub 6: the whole object is the options
    return _options(body)


def _options(body: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    options, display_name = body.get("user_options"), body.get("display_name")
    if options is not None and not isinstance(options, dict):
        raise BadRequest(f"user_options is {options!r}; it must be an object")
    # An empty title is none: JupyterHub leaves the one that there is. Back to the name leads the name itself.
    return options, checked_display_name(display_name) if display_name not in (None, "") else None
