"""What is done from the list: start and stop in a row, and one thing for many, asked about first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from himalia_hub import clock
from himalia_hub.auth import origin
from himalia_hub.auth.forms import posted
from himalia_hub.bulk import store as jobs
from himalia_hub.bulk import work
from himalia_hub.bulk.outcome import Outcome, State, outcome
from himalia_hub.errors import BadRequest, NotFound
from himalia_hub.keys import DB, REQUEST_ID, SECRETS, SETTINGS
from himalia_hub.measures import store as measures
from himalia_hub.pages import charts, wish
from himalia_hub.pages.admin import columns, listing, viewer
from himalia_hub.pages.admin.listing import Found, Wanted
from himalia_hub.pages.admin.listpage import where_of
from himalia_hub.pages.admin.query import parse
from himalia_hub.pages.admin.rows import Row, may, row, split
from himalia_hub.pages.cards import card
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page, wants_fragment
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.servers.kernels import busy
from himalia_hub.usage import hours

AT_MOST = 5000
SHOWN = 10


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.post(prefix + "admin/start", start),
        web.post(prefix + "admin/stop", stop),
        web.post(prefix + "admin/ask", ask),
        web.post(prefix + "admin/do", do),
        web.get(prefix + "admin/jobs/{id}", job),
        web.get(prefix + "admin/visit", visit),
        web.get(prefix + "admin/use", use),
    ]


@signed_in
async def start(request: web.Request) -> web.Response:
    """Wish one server running: 200 its row for our script, else 303 back to the same page of the list."""
    fields, _, username, name = await _one(request, "start:servers")
    await wish.start(request, username, name, None)
    return await _done(request, fields, username, name)


@signed_in
async def stop(request: web.Request) -> web.Response:
    """Wish one server stopped. 200 with a question first when its kernels are at work; stopping is no news to it."""
    fields, identity, username, name = await _one(request, "delete:servers")
    if "sure" not in fields:
        async with request.app[DB].read() as db:
            found = await listing.row_of(db, username, name)
        if found is not None and any((await _busy(request, [found])).values()):
            return await _question(request, identity, "stop", [(username, name)], fields)
    await wish.stop(request, username, name)
    return await _done(request, fields, username, name)


@signed_in
async def ask(request: web.Request) -> web.Response:
    """200 what would happen to the servers that were selected, with a button to go on."""
    identity = viewer.must_be(request)
    post = await posted(request)
    fields = _texts(post)
    act = _action(fields)
    if "all" in fields:
        wanted = Wanted(parse(fields.get("q", "")), only=viewer.listable(identity))
        async with request.app[DB].read() as db:
            named = await listing.matching(db, wanted, now=clock.now(), at_most=AT_MOST)
    else:
        named = [split(value) for value in post.getall("on", []) if isinstance(value, str)]
    return await _question(request, identity, act, named, fields)


@signed_in
async def do(request: web.Request) -> web.Response:
    """Begin what was asked about: 200 its progress for our script, else 303 to the page of it."""
    identity = viewer.must_be(request)
    fields = _texts(await posted(request))
    act = _action(fields)
    named = list(dict.fromkeys(split(line) for line in fields.get("those", "").splitlines() if line))
    if not named or len(named) > AT_MOST:
        raise BadRequest(f"The form names {len(named)} servers; 1 to {AT_MOST} can be changed at once.")
    async with request.app[DB].begin() as db:
        made = await jobs.create(db, identity.person, act, named, now=clock.now())
    asker = work.Asker(identity, origin.address(request), request.get(REQUEST_ID, ""))
    work.begin(request.app, made.id, act, asker)
    if wants_fragment(request):
        return await _job(request, identity, made.id)
    return redirect(f"{request.app[SETTINGS].hub_prefix}admin/jobs/{made.id}", status=303)


@signed_in
async def job(request: web.Request) -> web.Response:
    """200 how far a job has come, with what became of each server."""
    text = request.match_info["id"]
    return await _job(request, viewer.must_be(request), int(text) if text.isdigit() and len(text) < 10 else 0)


@signed_in
async def visit(request: web.Request) -> web.Response:
    """200 the page before somebody else's server, which says that the visit is recorded."""
    identity = viewer.must_be(request)
    username, name = split(request.query.get("on", ""))
    async with request.app[DB].read() as db:
        found = await listing.row_of(db, username, name)
    if found is None or not identity.allows("access:servers", user=username, server=name):
        raise NotFound("There is no such server, or it is not yours to open.")
    shown = row(found, request.app[SETTINGS])
    if username == identity.name:
        return redirect(shown.card.url)
    return await page(request, "visit.html", card=shown.card)


@signed_in
async def use(request: web.Request) -> web.Response:
    """200 what one server used in the last hour and when it stops; only the charts and that for our script.

    Asked for one server at a time: the hours that its person and their groups have left are several queries.
    """
    identity, now, settings = viewer.must_be(request), clock.now(), request.app[SETTINGS]
    username, name = split(request.query.get("on", ""))
    async with request.app[DB].read() as db:
        found = await listing.row_of(db, username, name)
        if found is None or found.server is None or not may(identity, username, name).see:
            raise NotFound("There is no such server, or it is not yours to see.")
        points = await measures.last_hour(db, [found.server.id], now=now)
        used_up = await hours.ends_for(db, settings, found.user.id, now=now)
    template = "fragment_use.html" if wants_fragment(request) else "admin_use.html"
    lines = charts.of_server(points[found.server.id], now)
    shown = card(found.server, username, settings, found.groups, use=found.use, used_up=used_up)
    return await page(request, template, card=shown, lines=lines, now=now)


async def _question(
    request: web.Request,
    identity: Identity,
    act: str,
    named: Sequence[tuple[str, str]],
    fields: dict[str, str],
) -> web.Response:
    """What `act` would change among these servers, and which kernels it would interrupt."""
    found = await _rows(request, named)
    settings = request.app[SETTINGS]
    rows = [row(one, settings) for one in found]
    fits = [
        (one, shown)
        for one, shown in zip(found, rows, strict=True)
        if act in shown.can and _allowed(identity, act, shown)
    ]
    working = {} if act == "start" else await _busy(request, [one for one, _ in fits])
    return await page(
        request,
        "fragment_ask.html" if wants_fragment(request) else "ask.html",
        act=act,
        rows=[shown for _, shown in fits],
        left_out=len(named) - len(fits),
        working=[
            (shown.card, names) for one, shown in fits if one.server and (names := working.get(one.server.id))
        ],
        silent=sum(names is None for names in working.values()),
        at_most=SHOWN,
        where=where_of(fields),
    )  # fmt: skip


async def _rows(request: web.Request, named: Sequence[tuple[str, str]]) -> list[Found]:
    async with request.app[DB].read() as db:
        return await listing.named(db, named)


async def _busy(request: web.Request, found: Sequence[Found]) -> dict[int, list[str] | None]:
    pairs = [(one.server, one.user.name) for one in found if one.server is not None]
    return await busy(pairs, request.app[SETTINGS], request.app[SECRETS])


def _allowed(identity: Identity, act: str, shown: Row) -> bool:
    rights = may(identity, shown.card.owner, shown.card.name)
    return rights.start if act == "start" else rights.stop


async def _one(request: web.Request, right: str) -> tuple[dict[str, str], Identity, str, str]:
    identity = viewer.must_be(request)
    fields = _texts(await posted(request))
    username, name = split(fields.get("only", ""))
    if not username:
        raise BadRequest("The form names no person.")
    if not identity.allows(right, user=username, server=name):
        raise NotFound("There is no such server, or it is not yours to change.")
    return fields, identity, username, name


async def _done(request: web.Request, fields: dict[str, str], username: str, name: str) -> web.Response:
    if not wants_fragment(request):
        where = where_of(fields)
        return redirect(f"{request.app[SETTINGS].hub_prefix}admin{where.query}", status=303)
    identity = viewer.must_be(request)
    async with request.app[DB].read() as db:
        found, shown = await listing.row_of(db, username, name), await columns.of(db, identity)
    if found is None:
        raise NotFound("This server is gone.")
    return await page(
        request,
        "row.html",
        row=row(found, request.app[SETTINGS]),
        may=may(identity, username, name),
        columns=shown,
    )


async def _job(request: web.Request, identity: Identity, job_id: int) -> web.Response:
    async with request.app[DB].read() as db:
        found = await jobs.find(db, job_id, identity.person)
        if found is None:
            raise NotFound("There is no such list of things to do, or it is not yours.")
        pairs = await jobs.items(db, job_id)
    outcomes: list[Outcome] = [outcome(found.action, item, server) for item, server in pairs]
    by_state = {state: [one for one in outcomes if one.state is state] for state in State}
    moving = bool(by_state[State.WAITING] or by_state[State.UNDERWAY])
    return await page(
        request,
        "fragment_job.html" if wants_fragment(request) else "job.html",
        job=found,
        outcomes=outcomes,
        done=by_state[State.DONE],
        failed=by_state[State.FAILED],
        ended=len(by_state[State.DONE]) + len(by_state[State.FAILED]),
        moving=moving,
    )


def _action(fields: dict[str, str]) -> str:
    act = fields.get("act", "")
    if act not in work.ACTIONS:
        raise BadRequest(
            f"{act[:30]!r} cannot be done to servers; it must be one of {', '.join(work.ACTIONS)}."
        )
    return act


def _texts(post: Any) -> dict[str, str]:
    return {key: value for key, value in post.items() if isinstance(value, str)}
