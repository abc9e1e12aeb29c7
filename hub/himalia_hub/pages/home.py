"""A person's own page: their servers, and a form for one more."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.audit import store as audit
from himalia_hub.audit.record import tell
from himalia_hub.auth.forms import posted
from himalia_hub.ephemeral import store as launches
from himalia_hub.errors import BadRequest, HimaliaError
from himalia_hub.groups import store as groups
from himalia_hub.keys import DB, IDENTITY, SECRETS, SETTINGS
from himalia_hub.measures import store as measures
from himalia_hub.pages import charts, wish
from himalia_hub.pages.cards import card, cards, never_started, revision, tail_of, use_of
from himalia_hub.pages.live import Change, sse
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import environment_of, moment_of_rows, page, render, wants_fragment
from himalia_hub.pages.share import shared_with
from himalia_hub.pages.streaming import stream
from himalia_hub.profiles.choice import OPTION
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.servers import stop_time, store
from himalia_hub.servers.kernels import busy
from himalia_hub.servers.limits import check_name
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import ready
from himalia_hub.services import store as store_of_services
from himalia_hub.services.view import service_url
from himalia_hub.usage import hours, report
from himalia_hub.usage import store as usage
from himalia_hub.usage.quota import window
from himalia_hub.usage.store import Standing
from himalia_hub.usage.view import quota_lines
from himalia_hub.users.models import User

SHOWN_VISITS, SHOWN_DAYS = 5, 30


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "home", home),
        web.post(prefix + "home/start", start_named),
        web.post(prefix + "home/stop", stop),
        web.post(prefix + "home/remove", remove),
        web.post(prefix + "home/keep", keep),
        web.get(prefix + "home/events", events),
    ]


@signed_in
async def home(request: web.Request) -> web.Response:
    """200 the page; only its cards for our own script. A guest has nothing but a session: 302 there."""
    identity = request[IDENTITY]
    assert identity is not None
    if "guest" in identity.roles:
        return redirect(request.app[SETTINGS].hub_prefix + "sessions")
    return await _home(request)


@signed_in
async def start_named(request: web.Request) -> web.Response:
    """Make and start a named server: 303 to its progress, or the page with what is wrong with the name."""
    identity = request[IDENTITY]
    assert identity is not None
    name = (await _field(request, "server")).strip().lower()
    try:
        if not name:
            raise BadRequest("A name is needed.", remedy="Choose a short one, such as teaching.")
        check_name(name, request.app[SETTINGS].servers)
        async with request.app[DB].read() as db:
            if await store.find(db, identity.name, name) is not None:
                raise BadRequest(f"You have a server named {name!r} already.", remedy="Choose another name.")
        profile = await _field(request, OPTION)
        await wish.start(request, identity.name, name, {OPTION: profile} if profile else None)
    except HimaliaError as problem:
        return await _home(request, typed=name, problem=problem)
    return redirect(
        f"{request.app[SETTINGS].hub_prefix}spawn-pending/{tail_of(identity.name, name)}", status=303
    )


@signed_in
async def stop(request: web.Request) -> web.Response:
    """Wish one's own server stopped; 303 back to the page. 200 with a question first when its kernels are at work."""
    identity, name = request[IDENTITY], await _field(request, "server")
    assert identity is not None
    if not await _field(request, "sure"):
        async with request.app[DB].read() as db:
            server = await store.find(db, identity.name, name)
        asked = [(server, identity.name)] if server else []
        working = await busy(asked, request.app[SETTINGS], request.app[SECRETS])
        names = next(iter(working.values()), None)
        if server is not None and names:
            template = "fragment_stop.html" if wants_fragment(request) else "stop.html"
            shown = card(server, identity.name, request.app[SETTINGS])
            return await page(request, template, card=shown, names=names)
    return await _end(request, remove=False)


@signed_in
async def remove(request: web.Request) -> web.Response:
    """Forget one's own named server, stopping it first; 303 back to the page."""
    return await _end(request, remove=True)


@signed_in
async def keep(request: web.Request) -> web.Response:
    """Put off the stop of one's own idle server; 303 back to the page, which shows the new time."""
    identity = request[IDENTITY]
    assert identity is not None
    name = await _field(request, "server")
    tell(request, target_user=identity.name, target=name)
    await stop_time.put_off(request.app, identity.name, name)
    return redirect(request.app[SETTINGS].hub_prefix + "home", status=303)


@signed_in
async def events(request: web.Request) -> web.StreamResponse:
    """200 a stream: `cards` with the servers as they are now, whenever one of one's own changes; `use` in between."""
    person = request[IDENTITY]
    assert person is not None

    async def draw(identity: Identity, changes: list[Change] | None, _: Hashable) -> str:
        mine = [change for change in changes or () if change.user_id == person.person]
        if changes is not None and all(change.only_use for change in mine):
            return await _used(request, mine) if mine else ""
        return sse("cards", render(request, "fragment_cards.html", await _shown(request, identity)))

    return await stream(request, draw)


async def _end(request: web.Request, *, remove: bool) -> web.Response:
    identity = request[IDENTITY]
    assert identity is not None
    await wish.stop(request, identity.name, await _field(request, "server"), remove=remove)
    return redirect(request.app[SETTINGS].hub_prefix + "home", status=303)


async def _lines(db: AsyncSession, servers: Sequence[Server]) -> defaultdict[str, tuple[charts.Line, ...]]:
    """The last hour of each of these servers, by its name."""
    now = clock.now()
    points = await measures.last_hour(db, [server.id for server in servers], now=now)
    drawn = {server.name: charts.of_server(points[server.id], now) for server in servers}
    return defaultdict(tuple, drawn)


async def _used(request: web.Request, changes: list[Change]) -> str:
    """What one's own servers use, by the ids of their cards."""
    servers = [(one.found.server, one.found.use) for one in changes if one.found and one.found.server]
    async with request.app[DB].read() as db:
        lines = await _lines(db, [server for server, _ in servers])
    drawn = environment_of(request.app[SETTINGS]).get_template("charts.html").module
    words = {
        f"server-{server.name}": asdict(use_of(use)) | {"chart": drawn.lines(lines[server.name])}  # type: ignore[attr-defined]
        for server, use in servers
    }
    return sse("use", json.dumps(words))


async def _shown(
    request: web.Request, identity: Identity, standings: Sequence[Standing] | None = None
) -> dict[str, Any]:
    """What the changing part of the page needs. Where the person stands is asked for if the caller does not know."""
    settings, now = request.app[SETTINGS], clock.now()
    async with request.app[DB].read() as db:
        rows = await store.list_for_user(db, identity.person)
        member_of = await groups.of_user(db, identity.person)
        reasons = await store.reasons(db, identity.person)
        uses = await measures.of_servers(db, [server.id for server in rows])
        lines = await _lines(db, rows)
        used_up = hours.ends_by(standings or (), settings, now=now)
        if standings is None and any(ready(server) for server in rows):
            used_up = await hours.ends_for(db, settings, identity.person, now=now)
    shown = cards(rows, identity.name, settings, member_of, reasons, uses, used_up)
    return {
        "cards": shown,
        "lines": lines,
        "rev": revision(shown),
        "live": any(one.moving for one in shown),
        "offers": never_started(identity.name, settings, member_of).offers,
    }


async def _home(
    request: web.Request, *, typed: str = "", problem: HimaliaError | None = None
) -> web.Response:
    settings, identity = request.app[SETTINGS], request[IDENTITY]
    assert identity is not None
    at = await moment_of_rows(request)
    links = settings.ephemeral.on
    async with request.app[DB].read() as db:
        services = await store_of_services.all_of(db)
        visits, _ = await audit.visits(db, identity.name, offset=0, limit=SHOWN_VISITS)
        standings = await usage.standings(
            db, settings, await db.get_one(User, identity.person), now=clock.now()
        )
        today = window("day", clock.now())
        month = report.Span(today[0] - timedelta(days=SHOWN_DAYS - 1), today[1], clock.now())
        days = await report.by_days(db, month, user_id=identity.person)
        guest_of = await shared_with(db, identity.person, settings)
        sessions = len(await launches.sessions_of(db, identity.person)) if links else 0
    shown = await _shown(request, identity, standings)
    return await page(
        request,
        "fragment_cards.html" if wants_fragment(request) else "home.html",
        status=problem.status if problem else 200,
        **shown,
        at=at,
        visits=visits,
        guest_of=guest_of,
        quotas=quota_lines(standings),
        hours=sum(spent for _, spent in days),
        bars=charts.bars([(day.date(), spent) for day, spent in days]),
        services=[
            (service.name, service_url(settings, service.name))
            for service in services
            if service.url and service.display and identity.allows("access:services", service=service.name)
        ],
        allow_named=settings.servers.allow_named,
        links=links,
        sessions=sessions,
        typed=typed,
        problem=problem,
    )


async def _field(request: web.Request, name: str) -> str:
    value = (await posted(request)).get(name, "")
    return value if isinstance(value, str) else ""
