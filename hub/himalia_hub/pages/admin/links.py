"""Throw-away sessions and what they are made of: who waits, what is built and its log, what is kept, what is banned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.ephemeral import bans, pool, sources, store, warmth
from himalia_hub.ephemeral.models import OVER, Environment, Launch, Stage
from himalia_hub.errors import BadRequest, HimaliaError, NotFound
from himalia_hub.keys import DB, LAUNCH_BELL, SETTINGS
from himalia_hub.languages import later
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.paths import redirect
from himalia_hub.pages.render import page, wants_fragment
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity

SCOPE = "links"
LINKS_SHOWN = 50
"""Of those that could be kept warm."""
FORM = {"repository": "", "why": "", "running": ""}
STATES = {
    Stage.RESOLVING: later("Looking up"),
    Stage.FETCHING: later("Fetching"),
    Stage.WAITING: later("Queued"),
    Stage.BUILDING: later("Building"),
    Stage.LAUNCHING: later("Starting"),
    Stage.WARM: later("Warm"),
    Stage.READY: later("Running"),
    Stage.KEEPING: later("Being kept"),
    Stage.ENDING: later("Ending"),
}


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "admin/links", links),
        web.post(prefix + "admin/links", change),
        web.get(prefix + "admin/links/environments/{key}", build_log),
    ]


@signed_in
async def links(request: web.Request) -> web.Response:
    """200 everything about links as it is now; for our own script only the part that changes."""
    viewer.must_be(request, SCOPE)
    return await _page(request)


@signed_in
async def build_log(request: web.Request) -> web.Response:
    """200 what the builder said about one environment; 404 when it is not known any more."""
    viewer.must_be(request, SCOPE)
    key = request.match_info["key"]
    async with request.app[DB].read() as db:
        environment = await db.get(Environment, key)
        if environment is None:
            raise NotFound("There is no such environment any more.", remedy="go back to the list")
        lines = await store.log_after(db, key, 0)
    return await page(
        request, "fragment_build.html" if wants_fragment(request) else "admin_build.html",
        one=environment, lines=lines, state=_state(environment), rev=f"{_state(environment)}-{len(lines)}",
    )  # fmt: skip


@signed_in
async def change(request: web.Request) -> web.Response:
    """303 back when it was done; the page again, saying why not."""
    identity = viewer.must_be(request, SCOPE)
    fields = {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
    act = _ACTS.get(fields.get("does", ""))
    try:
        if act is None:
            raise BadRequest(f"{fields.get('does', '')[:30]!r} cannot be done here")
        await act(request, identity, fields)
    except HimaliaError as problem:
        return await _page(request, typed=fields, problem=problem)
    return redirect(f"{request.app[SETTINGS].hub_prefix}admin/links", status=303)


# ------------------------------------------------------------------ what can be done


async def _ban(request: web.Request, identity: Identity, fields: Mapping[str, str]) -> None:
    url, label = _repository(request, fields.get("repository", "").strip())
    running, why = fields.get("running") == "yes", fields.get("why", "").strip()
    tell(
        request,
        target=bans.address_of(url)[:255],
        change={"after": {"banned": True, "sessions_end": running}},
    )
    async with request.app[DB].begin() as db:
        ended = await bans.ban(db, url, label, why, author=identity.name, now=clock.now(), running=running)
    _ring(request, ended)


async def _lift(request: web.Request, _identity: Identity, fields: Mapping[str, str]) -> None:
    async with request.app[DB].begin() as db:
        lifted = await bans.lift(db, _number(fields.get("id", "")))
    tell(request, target=lifted.address[:255], change={"after": {"banned": False}})


async def _clear(request: web.Request, _identity: Identity, fields: Mapping[str, str]) -> None:
    key = fields.get("key", "")
    tell(request, target=key[:64], change={"after": {"cleared": True}})
    async with request.app[DB].begin() as db:
        if not await store.clear_environment(db, key):
            raise NotFound("There is no such environment any more.")
    _ring(request, [0])


async def _end(request: web.Request, identity: Identity, fields: Mapping[str, str]) -> None:
    number = _number(fields.get("id", ""))
    async with request.app[DB].begin() as db:
        launch = await db.get(Launch, number)
        if launch is None or launch.stage in (*OVER, Stage.ENDING):
            raise NotFound("It is over already.")
        if launch.stage is Stage.KEEPING:
            raise BadRequest("its work is just moving into an account", remedy="it ends by itself then")
        tell(request, target_user=launch.guest, target=launch.label[:255])
        why = f"ended by {identity.name}"
        if not await store.move(db, launch, Stage.ENDING, now=clock.now(), ended_because=why):
            raise BadRequest("it went on just now", remedy="look again")
    _ring(request, [number])


async def _warm(request: web.Request, identity: Identity, fields: Mapping[str, str]) -> None:
    """So many warm sessions of one link, or of all together where none is named; left empty: as configured."""
    link = (fields.get("provider", ""), fields.get("spec", ""))
    numbers = {
        name: _number(text) if (text := fields.get(name, "").strip()) else None for name in ("least", "most")
    }
    if link != warmth.ALL and link[0] not in sources.PROVIDERS:
        raise BadRequest(f"{link[0][:16]!r} is no kind of link")
    tell(request, target="/".join(link).strip("/")[:255] or "all links", change={"after": {"warm": numbers}})
    async with request.app[DB].begin() as db:
        await warmth.say(db, link, **numbers, author=identity.name, now=clock.now())
    _ring(request, [0])


_ACTS = {"ban": _ban, "lift": _lift, "clear": _clear, "end": _end, "warm": _warm}


def _ring(request: web.Request, launches: list[int]) -> None:
    for number in launches:
        request.app[LAUNCH_BELL].ring(number)


def _repository(request: web.Request, text: str) -> tuple[str, str]:
    """(address, label) of `gh/owner/repository`, of a whole link, or of a repository's own address."""
    section = request.app[SETTINGS].ephemeral
    spec = text.partition("/v2/")[2].partition("?")[0] if "/v2/" in text else text
    provider, _, rest = spec.partition("/")
    if provider in sources.PROVIDERS and rest:
        found = sources.read(provider, rest, section.hosts)
        return found.url, found.label
    if "://" not in text:
        raise BadRequest(
            f"{text[:100]!r} is no repository", remedy="write gh/OWNER/REPOSITORY, a link, or an address"
        )
    return text, bans.address_of(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest(f"{text[:40]!r} is not a number")
    return int(text)


# ------------------------------------------------------------------ what is shown


def _state(environment: Environment) -> str:
    if environment.failure is not None:
        return "failed"
    return "ready" if environment.ready is not None else "building"


async def _page(
    request: web.Request, *, typed: Mapping[str, str] | None = None, problem: HimaliaError | None = None
) -> web.Response:
    async with request.app[DB].read() as db:
        launches = await store.under_way(db)
        environments = await store.environments(db)
        banned = await bans.every(db)
        wanted = await warmth.read(db, request.app[SETTINGS].ephemeral)
        asked = await pool.demands(db, wanted, now=clock.now())
    fragment = wants_fragment(request) and problem is None
    return await page(
        request, "fragment_links.html" if fragment else "admin_links.html",
        status=problem.status if problem else 200, problem=problem, typed=FORM | dict(typed or {}),
        section=request.app[SETTINGS].ephemeral, pool=store.POOL, banned=banned, longest=bans.LONGEST_WHY,
        warmth=wanted, warm_links=warm_links(asked, launches, wanted), most=warmth.MOST,
        **shown(launches, environments),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class WarmLink:
    """One link's warm sessions. `recent`: how often it was opened lately; `target`: how many there will be."""

    last: Launch
    recent: int
    warm: int
    target: int
    bounds: warmth.Bounds


def warm_links(
    asked: Sequence[pool.Demand], launches: Sequence[Launch], wanted: warmth.Warmth
) -> list[WarmLink]:
    """Each link that was opened in the last days, the most wanted first. Pure."""
    targets = pool.desired(asked, total=wanted.total)
    warm = Counter(
        pool.link_of(one) for one in launches if one.visitor == store.POOL and one.stage is Stage.WARM
    )
    found = [
        WarmLink(one.last, one.recent, warm[one.link], targets.get(one.link, 0), one.bounds) for one in asked
    ]
    return sorted(found, key=lambda one: (-one.target, -one.recent, one.last.label))[:LINKS_SHOWN]


def shown(launches: list[Launch], environments: list[Environment]) -> dict[str, Any]:
    """What the changing part of the page holds. Pure: rows in, words and numbers out."""
    queue = [
        one.id
        for one in launches
        if not one.seated and one.stage in (Stage.RESOLVING, Stage.FETCHING, Stage.WAITING)
    ]
    used = Counter(one.environment for one in launches if one.environment)
    states = [(one, _state(one)) for one in environments]
    return {
        "launches": [
            (one, STATES[one.stage], queue.index(one.id) + 1 if one.id in queue else 0) for one in launches
        ],
        "environments": [(one, state, used[one.key]) for one, state in states],
        "counts": {
            "running": sum(one.stage is Stage.READY for one in launches),
            "warm": sum(one.stage is Stage.WARM for one in launches),
            "queued": len(queue),
            "building": sum(state == "building" for _, state in states),
        },
        "rev": "-".join([*(f"{one.id}{one.stage.value}" for one in launches), str(len(environments))])[-200:],
    }
