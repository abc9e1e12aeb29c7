"""`api/sessions`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from himalia_singleuser.answers import json_answer, json_body, url_of
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.sessions.store import SESSIONS, SessionStore


@authenticated
async def list_sessions(request: web.Request) -> web.Response:
    """Every session whose kernel lives."""
    return json_answer(request.app[SESSIONS].models())


@authenticated
async def create_session(request: web.Request) -> web.Response:
    """The session of a path, with its kernel started; 201 also when it was there already."""
    model = await request.app[SESSIONS].create(await json_body(request))
    location = {"Location": url_of(request, "api/sessions", model["id"])}
    return json_answer(model, status=201, headers=location)


@authenticated
async def show_session(request: web.Request) -> web.Response:
    """One session."""
    return json_answer(request.app[SESSIONS].model(request.match_info["session_id"]))


@authenticated
async def update_session(request: web.Request) -> web.Response:
    """Rename it, or give it another kernel."""
    body = await json_body(request)
    return json_answer(await request.app[SESSIONS].update(request.match_info["session_id"], body))


@authenticated
async def delete_session(request: web.Request) -> web.Response:
    """Forget it and shut its kernel down."""
    await request.app[SESSIONS].delete(request.match_info["session_id"])
    return web.Response(status=204)


async def sessions_lifetime(app: web.Application) -> AsyncIterator[None]:
    """Needs the kernels: list it after theirs."""
    app[SESSIONS] = SessionStore(app[KERNELS])
    yield


_SESSION = r"/api/sessions/{session_id:\w+-\w+-\w+-\w+-\w+}"

routes: list[web.RouteDef] = [
    web.get("/api/sessions", list_sessions, allow_head=False),
    web.post("/api/sessions", create_session),
    web.get(_SESSION, show_session, allow_head=False),
    web.patch(_SESSION, update_session),
    web.delete(_SESSION, delete_session),
]
lifetimes = [sessions_lifetime]
