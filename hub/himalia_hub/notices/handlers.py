"""Announcements and maintenance in the REST API."""

from __future__ import annotations

from aiohttp import web

from himalia_hub import clock
from himalia_hub.audit.record import tell
from himalia_hub.clock import iso
from himalia_hub.errors import NotFound
from himalia_hub.keys import DB, DOORBELL, IDENTITY
from himalia_hub.notices import board, maintenance, store
from himalia_hub.notices.notice import Notice
from himalia_hub.notices.schemas import AnnouncementBody, MaintenanceBody, maintenance_from, notice_from
from himalia_hub.rbac.guard import public, scoped
from himalia_hub.schemas import read, takes


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    announcements, maintained = prefix + "api/announcements", prefix + "api/maintenance"
    return [
        web.get(announcements, shown),
        web.get(announcements + "/all", every),
        web.post(announcements, announce),
        web.put(announcements + "/{id}", change),
        web.delete(announcements + "/{id}", take_down),
        web.get(maintained, maintenance_now),
        web.put(maintained, begin_maintenance),
        web.delete(maintained, end_maintenance),
    ]


@public(xsrf_by_hand=True)
async def shown(request: web.Request) -> web.Response:
    """200 what is said to everybody just now, for everybody: a list of `{id, level, text, starts, ends}`, the gravest
    first. `level` is info, warning or danger; `text` is plain text; id 0 is the maintenance.
    """
    said = await board.shown(request.app)
    return web.json_response([one.model() for one in said], headers={"Cache-Control": "no-store"})


@scoped("announcements")
async def every(request: web.Request) -> web.Response:
    """200 all announcements, past and coming ones too, each with its `author`."""
    async with request.app[DB].read() as db:
        return web.json_response([_model(one) for one in await store.every(db)])


@scoped("announcements")
@takes(AnnouncementBody)
async def announce(request: web.Request) -> web.Response:
    """201 the announcement, which everybody sees from `starts` on."""
    return await _put(request, await read(request, AnnouncementBody), 0)


@scoped("announcements")
@takes(AnnouncementBody)
async def change(request: web.Request) -> web.Response:
    """200 the announcement as it is from now on; 404 unknown."""
    return await _put(request, await read(request, AnnouncementBody), _number(request))


@scoped("announcements")
async def take_down(request: web.Request) -> web.Response:
    """204; nobody sees it any more. 404 unknown."""
    await take_down_one(request, _number(request))
    return web.Response(status=204)


@scoped("maintenance")
async def maintenance_now(request: web.Request) -> web.Response:
    """200 `{on, text, since, ends, author}`; all but `on` null when there is none."""
    async with request.app[DB].read() as db:
        return web.json_response(_maintenance(await maintenance.get(db, now=clock.now())))


@scoped("maintenance")
@takes(MaintenanceBody)
async def begin_maintenance(request: web.Request) -> web.Response:
    """200 as GET answers. From this answer on, every start is refused with 503, by all hubs; servers that run go on,
    and so do starts that were accepted. It is over at `ends`, or when it is ended.
    """
    body, identity = await read(request, MaintenanceBody), request[IDENTITY]
    assert identity is not None  # the guard let it through
    return web.json_response(_maintenance(await begin(request, maintenance_from(body, identity.name))))


@scoped("maintenance")
async def end_maintenance(request: web.Request) -> web.Response:
    """204: servers can be started again."""
    await end(request)
    return web.Response(status=204)


async def begin(request: web.Request, said: Notice) -> Notice:
    """Accept no start from now on, and leave a line in the audit."""
    async with request.app[DB].begin() as db:
        before = _maintenance(await maintenance.get(db, now=clock.now()))
        await maintenance.begin(db, said)
    tell(request, target="maintenance", change={"before": before, "after": _maintenance(said)})
    request.app[DOORBELL].ring_all()
    return said


async def end(request: web.Request) -> None:
    """Accept starts again, and leave a line in the audit."""
    async with request.app[DB].begin() as db:
        before = _maintenance(await maintenance.get(db, now=clock.now()))
        await maintenance.end(db)
    tell(request, target="maintenance", change={"before": before, "after": _maintenance(None)})
    request.app[DOORBELL].ring_all()


async def put_one(request: web.Request, said: Notice) -> Notice:
    """Write it, and its line in the audit; who has a page open sees it at once."""
    async with request.app[DB].begin() as db:
        before = _model(await store.get(db, said.id)) if said.id else None
        made = await store.put(db, said)
    tell(request, target=f"announcement {made.id}", change={"before": before, "after": _model(made)})
    request.app[DOORBELL].ring_all()
    return made


async def take_down_one(request: web.Request, number: int) -> None:
    """Delete it, with a line in the audit that keeps what it said."""
    async with request.app[DB].begin() as db:
        gone = await store.take_down(db, number)
    tell(request, target=f"announcement {number}", change={"before": _model(gone)})
    request.app[DOORBELL].ring_all()


async def _put(request: web.Request, body: AnnouncementBody, number: int) -> web.Response:
    identity = request[IDENTITY]
    assert identity is not None  # the guard let it through
    made = await put_one(request, notice_from(body, identity.name, number))
    return web.json_response(_model(made), status=200 if number else 201)


def _maintenance(said: Notice | None) -> dict[str, object]:
    if said is None:
        return {"on": False, "text": None, "since": None, "ends": None, "author": None}
    return {
        "on": True, "text": said.text, "since": iso(said.starts), "ends": iso(said.ends), "author": said.author,
    }  # fmt: skip


def _model(one: Notice) -> dict[str, object]:
    return one.model() | {"author": one.author}


def _number(request: web.Request) -> int:
    text = request.match_info["id"]
    # Nothing has the number 0: the maintenance, which is shown as that, is no announcement.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise NotFound(f"there is no announcement {text[:40]!r}")
    return int(text)
