"""A visitor's running sessions: when they end, put off, taken along."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp import web

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.auth import cookies
from himalia_hub.ephemeral import session, store
from himalia_hub.ephemeral.folders import folders_of
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.ephemeral.tree import measure, zipped
from himalia_hub.errors import NotFound
from himalia_hub.keys import DB, IDENTITY, LAUNCH_BELL, SECRETS, SETTINGS, SPAWNER
from himalia_hub.pages.paths import login_url, redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.servers import stop_time
from himalia_hub.servers.cull import Ending, can_be_kept, ending_of
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import server_url
from himalia_hub.settings import HubSettings
from himalia_hub.shares import store as shares
from himalia_hub.users.models import User
from himalia_spawner.base import TakesFiles

CLAIM = "himalia-keep"
CLAIM_FOR = timedelta(minutes=30)
"""How long signing in may take between "Keep this" and the question for whom."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One session as the page shows it.

    `latest` is when it ends however much it is used.
    """

    launch: Launch
    url: str
    ready: bool
    ending: Ending | None
    latest: datetime | None
    can_keep_alive: bool


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "sessions", sessions),
        web.post(prefix + "sessions/{key}/extend", extend),
        web.get(prefix + "sessions/{key}/files.zip", download, allow_head=False),
        web.get(prefix + "sessions/{key}/keep", ask_to_keep, allow_head=False),
        web.post(prefix + "sessions/{key}/keep", keep),
    ]


@signed_in
async def sessions(request: web.Request) -> web.Response:
    """200 the sessions of whoever asks, or of the guest they are."""
    identity = request[IDENTITY]
    assert identity is not None
    settings = request.app[SETTINGS]
    async with request.app[DB].read() as db:
        launches = await store.sessions_of(db, identity.person)
        servers = [await db.get(Server, one.server_id) if one.server_id else None for one in launches]
    shown = [_shown(settings, *pair) for pair in zip(launches, servers, strict=True)]
    can_keep = isinstance(request.app[SPAWNER], TakesFiles)
    guest = "guest" in identity.roles
    return await page(request, "sessions.html", sessions=shown, guest=guest, can_keep=can_keep)


@signed_in
async def extend(request: web.Request) -> web.Response:
    """303 back to the page, which shows the new times."""
    launch = await mine(request)
    tell(request, target_user=launch.guest)
    await stop_time.put_off(request.app, launch.guest, "")
    return redirect(request.app[SETTINGS].hub_prefix + "sessions", status=303)


@signed_in
async def download(request: web.Request) -> web.StreamResponse:
    """200 the session's files as a zip archive, while they are read; 413 when there are too many."""
    launch = await mine(request)
    folder, most = home_of(request, launch), request.app[SETTINGS].ephemeral.download_max_bytes
    await asyncio.to_thread(measure, folder, owner=launch.uid, most=most)
    name = session.slug_of(launch)
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/zip",
            "Content-Disposition": f'attachment; filename="{name}.zip"',
            "Cache-Control": "no-store",
        }
    )
    await response.prepare(request)
    pieces = zipped(folder, owner=launch.uid, most=most, inside=name)
    try:
        # A thread is held for one piece at a time, never while a slow reader takes it.
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            await response.write(piece)
        await response.write_eof()
    finally:
        pieces.close()
    return response


@signed_in
async def ask_to_keep(request: web.Request) -> web.Response:
    """200 whose account the files will go to, and what becomes of the session."""
    identity = request[IDENTITY]
    assert identity is not None
    if "guest" in identity.roles:
        return redirect(request.app[SETTINGS].hub_prefix + "sessions")
    launch = await mine(request, claimed=True)
    return await page(request, "session_keep.html", launch=launch, folder=session.slug_of(launch))


@signed_in
async def keep(request: web.Request) -> web.Response:
    """A guest: 303 to the sign-in page, with a cookie that says whose session it was. A person: 303 to its progress."""
    identity, settings = request[IDENTITY], request.app[SETTINGS]
    assert identity is not None
    here = f"{settings.hub_prefix}sessions/{request.match_info['key']}/keep"
    if "guest" in identity.roles:
        launch = await mine(request)
        until = int(clock.now().timestamp() + CLAIM_FOR.total_seconds())
        claim = request.app[SECRETS].sign(CLAIM, f"{launch.key}:{until}")
        response = redirect(login_url(request, here), status=303)
        cookies.put(request, response, CLAIM, claim, path=here, age=CLAIM_FOR)
        return response
    launch = await mine(request, claimed=True)
    tell(request, target_user=launch.guest)
    async with request.app[DB].begin() as db:
        person, server = await db.get(User, identity.person), await db.get(Server, launch.server_id or 0)
        kept = {"keep_for": identity.person, "keep_problem": "", "visitor": f"user:{identity.person}"}
        if person is None or server is None:
            raise NotFound("The session is over.")
        if await store.move(db, launch, Stage.KEEPING, now=clock.now(), **kept):
            # It is theirs from here on, also should the copy fail.
            await shares.grant(db, server, person, session.VISITOR_RIGHTS, now=clock.now())
    request.app[LAUNCH_BELL].ring(launch.id)
    response = redirect(f"{settings.hub_prefix}launches/{launch.key}", status=303)
    response.del_cookie(CLAIM, path=here)
    return response


async def mine(request: web.Request, *, claimed: bool = False) -> Launch:
    """The running session of the path, when it is that of whoever asks, or (`claimed`) was before they signed in.

    NotFound for all others alike.
    """
    identity = request[IDENTITY]
    assert identity is not None
    async with request.app[DB].read() as db:
        launch = await store.by_key(db, request.match_info["key"])
    theirs = launch is not None and (
        launch.guest_id == identity.user_id
        or launch.visitor == f"user:{identity.user_id}"
        or (claimed and _claim(request) == launch.key)
    )
    if launch is None or not theirs or launch.stage is not Stage.READY:
        raise NotFound("There is no such session, or it is over.", remedy="open the link again")
    return launch


def _claim(request: web.Request) -> str:
    """The key of the session that this browser was the guest of when it asked to keep it."""
    value = request.app[SECRETS].unsign(CLAIM, request.cookies.get(CLAIM, "")) or ""
    key, _, until = value.partition(":")
    return key if until.isdigit() and int(until) > clock.now().timestamp() else ""


def home_of(request: web.Request, launch: Launch) -> Path:
    """Its folder. NotFound when it is not on this machine."""
    home = folders_of(request.app[SETTINGS], request.app[SECRETS]).home(launch)
    if not home.is_dir():
        raise NotFound("The files of this session cannot be reached from here.")
    return home


def _shown(settings: HubSettings, launch: Launch, server: Server | None) -> Shown:
    section = settings.ephemeral
    ending = ending_of(server, launch.guest, (), settings) if server else None
    latest = session.latest_of(section, server)
    return Shown(
        launch=launch,
        url=server_url(settings, launch.guest, "") + launch.opening,
        ready=launch.stage is Stage.READY,
        ending=ending,
        latest=latest,
        can_keep_alive=server is not None and can_be_kept(server, ending, settings),
    )
