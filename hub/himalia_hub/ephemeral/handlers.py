"""Opening a link: BinderHub's addresses for programs, and our pages for people."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from himalia_hub import clock
from himalia_hub.auth import begin, origin
from himalia_hub.auth.xsrf import xsrf_token
from himalia_hub.ephemeral import git, session, sources, store, stream
from himalia_hub.ephemeral.admission import Admitted, Click
from himalia_hub.ephemeral.models import BUILD_ONLY, NOBODY, OVER, Launch, Stage
from himalia_hub.errors import BadRequest, HimaliaError, NotAuthenticated, NotAuthorized, NotFound
from himalia_hub.keys import DB, IDENTITY, LAUNCH_BELL, LAUNCH_DOOR, LAUNCH_LISTENERS, LAUNCH_QUEUE, SETTINGS
from himalia_hub.languages import sentence
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import public, to_login
from himalia_hub.secrets import same
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import full_url, server_url
from himalia_hub.tokens import store as tokens
from himalia_hub.users.models import User

HOLD_S = 60.0
"""As long as BinderHub holds its stream after `ready`: its client takes an end before that for a failure."""
ASK_S = 3.0
"""How long the question before a link is opened may wait for the repository."""
REFRESH_S = 2
"""How often a browser without JavaScript asks again."""


def routes(prefix: str, base_url: str) -> list[web.RouteDef]:
    """Handler paths. Links are opened below the hub's prefix, where its cookies come along; `/v2/…` leads there."""
    return [
        web.get(prefix + "v2/{provider}/{spec:.*}", open_link, allow_head=False),
        web.post(prefix + "v2/{provider}/{spec:.*}", open_link_form),
        web.get(prefix + "launches/{key}", show),
        web.post(prefix + "launches/{key}", cancel),
        web.get(prefix + "launches/{key}/events", events, allow_head=False),
        web.get(prefix + "launches/{key}/enter", enter, allow_head=False),
        web.get(base_url + "build/{provider}/{spec:.*}", build, allow_head=False),
        web.get(prefix + "build/{provider}/{spec:.*}", build, allow_head=False),
        web.get(base_url + "api/repoproviders", repo_providers),
        web.get(base_url + "_config", repo_providers),
        web.get(base_url + "repo/{owner}/{repository}", old_link),
        web.get(base_url + "repo/{owner}/{repository}/{path:.*}", old_link),
    ]


# ------------------------------------------------------------------ for people


@public
async def open_link(request: web.Request) -> web.Response:
    """302 to the launch for a visitor without an account; a page that says what will run for who is signed in."""
    source, opening = _asked(request)
    identity = request.get(IDENTITY)
    launch = await _running_session(request, source)
    if launch is not None:
        return redirect(await _session_url(request, launch, opening))
    _may_open(request)
    if identity is None and request.headers.get("Sec-Fetch-Mode") == "navigate":
        return await open_link_form(request)
    return await page(
        request, "launch_ask.html", source=source, opening=opening, action=request.rel_url.raw_path_qs,
        commit=await _commit_now(request, source),
    )  # fmt: skip


async def _commit_now(request: web.Request, source: sources.Source) -> str:
    """The commit that the link means now; empty where that cannot be said soon: opening it says why."""
    if source.commit or source.packed:
        return source.commit or ""
    section = request.app[SETTINGS].ephemeral
    with suppress(HimaliaError, TimeoutError, OSError):
        async with asyncio.timeout(ASK_S):
            remote = await git.checked(source.url, section.private_hosts)
            return await git.resolve(remote, source.ref, seconds=ASK_S)
    return ""


@public
async def open_link_form(request: web.Request) -> web.Response:
    """303 to the page of a new launch."""
    source, opening = _asked(request)
    _may_open(request)
    with request.app[LAUNCH_DOOR].answering():
        launch, _ = await _add(request, source, opening)
    return redirect(f"{request.app[SETTINGS].hub_prefix}launches/{launch.key}", status=303)


@public
async def show(request: web.Request) -> web.Response:
    """200 what is under way, 302 into the session when it is ready; 410 when it is over, with why."""
    launch = await _launch(request)
    if launch.failure is not None or launch.stage in (*OVER, Stage.ENDING):
        return await _over(request, launch)
    if launch.stage is Stage.KEEPING:
        return await page(request, "launch_keeping.html", launch=launch, refresh_s=REFRESH_S)
    if launch.stage is Stage.READY and launch.keep_problem:
        return redirect(request.app[SETTINGS].hub_prefix + "sessions")
    if launch.stage is Stage.READY:
        return redirect(_enter_url(request, launch))
    request.app[LAUNCH_LISTENERS].asked(launch.id)
    story = await request.app[DB].read_in_one(lambda db: store.story(db, launch.id, 0))
    prefix = f"{request.app[SETTINGS].hub_prefix}launches/{launch.key}"
    return await page(
        request, "launch.html", launch=launch, story=story, refresh_s=REFRESH_S,
        provider=session.provider_name(launch), progress=stream.PROGRESS[launch.stage],
        progress_url=f"{prefix}/events?_xsrf={quote(xsrf_token(request))}", action=prefix,
        rev=f"{launch.stage.value}-{len(story)}",
    )  # fmt: skip


async def _over(request: web.Request, launch: Launch) -> web.Response:
    settings = request.app[SETTINGS]
    kept_url = ""
    if launch.kept_as:
        # A server with a folder of its own to begin in may not reach the new one by its name.
        there = "" if settings.spawner.notebook_dir else f"/tree/{quote(launch.kept_as)}"
        kept_url = f"{settings.hub_prefix}user-redirect/lab{there}"
    return await page(
        request,
        "launch_over.html",
        status=500 if launch.failure is not None else 200 if launch.kept_as else 410,
        launch=launch,
        again=f"{settings.hub_prefix}{_link(launch)}",
        kept_url=kept_url,
    )


@public
async def cancel(request: web.Request) -> web.Response:
    """303 back to the page; the launch ends, whatever it is at."""
    launch = await _launch(request)
    why = "stopped by its visitor" if launch.stage is Stage.READY else "cancelled by its visitor"
    async with request.app[DB].begin() as db:
        if launch.stage not in (*OVER, Stage.ENDING, Stage.KEEPING):
            await store.move(db, launch, Stage.ENDING, now=clock.now(), ended_because=why)
    request.app[LAUNCH_BELL].ring(launch.id)
    return redirect(request.rel_url.raw_path, status=303)


@public
async def events(request: web.Request) -> web.StreamResponse:
    """200 the launch's story for its page: `message`, `progress`, at the end `ready` with `url`, or `failed`."""
    _, cursor = stream.Cursor.read(request.headers.get("Last-Event-ID", ""))

    async def ready(now: Launch) -> stream.Payload:
        return {"ready": True, "url": _enter_url(request, now), "message": "Opening it\n"}

    with ExitStack() as waits:
        waits.enter_context(request.app[LAUNCH_DOOR].answering())
        launch = await _launch(request)
        standing = None
        if launch.stage in stream.QUEUED and not launch.seated:
            # Before its story: the queue is read once for a crowd, and stories for each.
            standing = await request.app[LAUNCH_QUEUE].place(launch.id)
        return await stream.tell(
            request, launch, cursor, ready, standing=standing, answered=waits.close, words=sentence
        )


@public
async def enter(request: web.Request) -> web.Response:
    """302 into the session, signed in as its guest: only the browser that the launch's page was shown to can."""
    launch = await _launch(request)
    if not same(request.query.get("_xsrf", ""), xsrf_token(request)):
        raise NotAuthorized(
            "This link was made for another browser.", remedy="open the repository's own link"
        )
    if launch.stage is not Stage.READY or launch.guest_id is None:
        return redirect(f"{request.app[SETTINGS].hub_prefix}launches/{launch.key}")
    identity, there = request.get(IDENTITY), await _session_url(request, launch, launch.opening)
    if identity is not None:
        if f"user:{identity.user_id}" != launch.visitor and identity.user_id != launch.guest_id:
            raise NotAuthorized(
                "This session belongs to somebody else.", remedy="open the repository's own link"
            )
        return redirect(there)
    async with request.app[DB].read() as db:
        guest = await db.get(User, launch.guest_id)
    if guest is None or not guest.guest:
        raise NotFound("The session is over.")
    return await begin.sign_in(request, guest, there)


# ------------------------------------------------------------------ for programs


@public(tokens=True)
async def build(request: web.Request) -> web.StreamResponse:
    """200 BinderHub's event stream; 400 without `Accept: text/event-stream`. Failures are events, never codes."""
    if "text/event-stream" not in request.headers.get("Accept", ""):
        raise BadRequest("this address answers with events", remedy="send Accept: text/event-stream")

    async def ready(now: Launch) -> stream.Payload:
        return await _ready_for_programs(request, now)

    with ExitStack() as waits:
        waits.enter_context(request.app[LAUNCH_DOOR].answering())
        launch, cursor = await _returned_to(request)
        standing = None
        if launch is None:
            try:
                source, opening = _asked(request)
                _may_open(request)
                if _builds_only(request):
                    opening = BUILD_ONLY
                launch, standing = await _add(request, source, opening)
            except HimaliaError as error:
                return await stream.refuse(request, error)
        return await stream.tell(
            request, launch, cursor, ready, standing=standing, answered=waits.close, hold_s=HOLD_S
        )


def _builds_only(request: web.Request) -> bool:
    """Whether no session is wanted, as BinderHub reads it. BadRequest where that is not offered."""
    if request.query.get("build_only", "").lower() != "true":
        return False
    if not request.app[SETTINGS].ephemeral.build_only:
        raise BadRequest(
            "This hub makes no environments without a session.",
            remedy="Leave out build_only, or ask an administrator to allow it (ephemeral.build_only).",
        )
    return True


async def _returned_to(request: web.Request) -> tuple[Launch | None, stream.Cursor]:
    """The launch of whoever was cut off, and how much of it they were told; None for a new click."""
    key, cursor = stream.Cursor.read(request.headers.get("Last-Event-ID", ""))
    if key:
        launch = await request.app[DB].read_in_one(lambda db: store.by_key(db, key))
        if launch is not None and launch.ended_because != NOBODY:
            return launch, cursor
    return None, stream.Cursor()


@public
async def old_link(request: web.Request) -> web.Response:
    """302 from the addresses of Binder's first years, which READMEs still hold, to the link of today."""
    owner, repository, path = (
        quote(request.match_info.get(key, "")) for key in ("owner", "repository", "path")
    )
    opening = f"?urlpath={path}" if path.strip("/") else ""
    return redirect(
        f"{request.app[SETTINGS].base_url}v2/gh/{owner}/{repository}/{sources.DEFAULT_REF}{opening}"
    )


async def _ready_for_programs(request: web.Request, launch: Launch) -> stream.Payload:
    """What BinderHub's clients read: the server's address, and a token that opens this session alone."""
    settings = request.app[SETTINGS]
    async with request.app[DB].begin() as db:
        assert launch.guest_id is not None  # it is ready
        scopes = ["access:servers!user", "read:servers!user", "delete:servers!user"]
        _, token = await tokens.issue(
            db, launch.guest_id, now=clock.now(), scopes=scopes, note="for whoever opened the link"
        )
        server = await db.get(Server, launch.server_id) if launch.server_id else None
    latest = session.latest_of(settings.ephemeral, server)
    host = settings.public_url.rstrip("/") or origin.site(request)
    path = server_url(settings, launch.guest, "")
    url = full_url(settings, path) or host + path
    return {
        "message": f"server running at {url}\n",
        "url": url,
        "token": token,
        "expires_at": clock.iso(latest) if latest is not None else None,
        "image": stream.image_of(request.app, launch),
        "repo_url": sources.told_url(launch.provider, launch.url),
        "binder_ref_url": sources.page_of(launch.provider, launch.url, launch.stem, launch.commit),
        "binder_launch_host": host + settings.base_url,
        "binder_request": f"v2/{launch.provider}/{launch.spec}",
        "binder_persistent_request": f"v2/{launch.provider}/{launch.stem}/{launch.commit}",
    }


@public
async def repo_providers(request: web.Request) -> web.Response:
    """200 the kinds of links, as BinderHub's pages read them."""
    section = request.app[SETTINGS].ephemeral
    listed: list[dict[str, Any]] = [
        {
            "id": one.prefix,
            "displayName": one.name,
            "spec": {"validateRegex": "^.+$"},
            "repo": {"label": one.name, "placeholder": one.example},
            "ref": {"enabled": True, "default": sources.DEFAULT_REF},
        }
        for one in sources.PROVIDERS.values()
        if section.on and one.prefix in section.providers
    ]
    return web.json_response(listed)


# ------------------------------------------------------------------ what both need


def _asked(request: web.Request) -> tuple[sources.Source, str]:
    """The repository and the path to open, from the address as it was sent."""
    section = request.app[SETTINGS].ephemeral
    if not section.on:
        raise NotFound("This hub opens no links to repositories.")
    found = re.search(r"/(?:v2|build)/([^/]+)/(.*)$", request.rel_url.raw_path)
    provider, spec = (found[1], found[2]) if found else ("", "")
    if provider in sources.PROVIDERS and provider not in section.providers:
        raise BadRequest(f"this hub opens no links of {sources.PROVIDERS[provider].name}")
    source = sources.read(provider, spec, section.hosts)
    if not section.admits(source.provider, source.spec):
        raise NotAuthorized("This hub does not open this repository.", remedy="ask its administrators")
    return source, sources.opening(request.query)


def _may_open(request: web.Request) -> None:
    why = request.app[SETTINGS].ephemeral.banned_network(origin.address(request))
    if why is not None:
        words = f"This hub opens no links for your network: {why}"
        raise NotAuthorized(
            words if why else "This hub opens no links for your network.", remedy="ask its administrators"
        )
    if request.app[SETTINGS].ephemeral.open_to == "people" and request.get(IDENTITY) is None:
        if request.headers.get("Accept", "").startswith("text/event-stream"):
            raise NotAuthenticated("Only who is signed in may open links here.")
        raise to_login(request)


async def _add(request: web.Request, source: sources.Source, opening: str) -> Admitted:
    identity = request.get(IDENTITY)
    user_id = identity.user_id if identity is not None else None
    return await request.app[LAUNCH_DOOR].open(
        Click(source, opening, origin.address(request), user_id, origin.site(request))
    )


async def _launch(request: web.Request) -> Launch:
    key = request.match_info["key"]
    launch = await request.app[DB].read_in_one(lambda db: store.by_key(db, key))
    if launch is None:
        raise NotFound("There is no such session, or it was over long ago.", remedy="open the link again")
    return launch


async def _running_session(request: web.Request, source: sources.Source) -> Launch | None:
    """The session that this browser has of this repository already."""
    identity = request.get(IDENTITY)
    if identity is None or identity.user_id is None:
        return None
    async with request.app[DB].read() as db:
        launch = await store.running(db, identity.user_id, source.provider, source.stem)
        if launch is None or launch.server_id is None:
            return None
        server = await db.get(Server, launch.server_id)
    return launch if server is not None else None


async def _session_url(request: web.Request, launch: Launch, opening: str) -> str:
    return server_url(request.app[SETTINGS], launch.guest, "") + opening


def _enter_url(request: web.Request, launch: Launch) -> str:
    query = urlencode({"_xsrf": xsrf_token(request)})
    return f"{request.app[SETTINGS].hub_prefix}launches/{launch.key}/enter?{query}"


def _link(launch: Launch) -> str:
    query = f"?{urlencode({'urlpath': launch.opening})}" if launch.opening else ""
    return f"v2/{launch.provider}/{launch.spec}{query}"
