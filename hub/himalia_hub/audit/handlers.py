"""Reading what was done: everything for who may, and for everybody who else opened their servers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from himalia_hub import clock, paging, spreadsheet
from himalia_hub.audit import store
from himalia_hub.audit.models import AuditRow
from himalia_hub.audit.record import ACCESS, CHANGE
from himalia_hub.errors import BadRequest, NotFound
from himalia_hub.keys import DB
from himalia_hub.rbac.guard import NO_ACCESS, scoped
from himalia_hub.schemas import takes
from himalia_hub.servers.activity import read_moment
from himalia_hub.users import store as users

COLUMNS = (
    "id", "at", "kind", "action", "actor", "on_behalf_of", "token_id", "address", "target_user", "target", "status",
    "change", "request_id",
)  # fmt: skip
CHUNK = 1000


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "api/audit", get_audit),
        web.get(prefix + "api/users/{user}/visits", get_visits),
    ]


@scoped("read:audit")
@takes(query=("offset", "limit", "format", "kind", "actor", "target_user", "since", "until"))
async def get_audit(request: web.Request) -> web.StreamResponse:
    """200 rows, the newest first, by page; with `format=csv` all of them as CSV.

    Narrowed by `kind` (access, change), `actor`, `target_user`, `since`, `until`; 400 for what cannot be read.
    """
    wanted, form = _filter(request), request.query.get("format", "json")
    if form == "csv":
        return await _csv(request, wanted)
    if form != "json":
        raise BadRequest(f"format is {form[:30]!r}; it must be json or csv")
    page = paging.asked_page(request)
    async with request.app[DB].read() as db:
        rows, total = await store.page_of(db, wanted, offset=page.offset, limit=page.limit)
    return paging.paged(request, page, [model(row) for row in rows], total)


@scoped("read:servers")
@takes(query=("offset", "limit"))
async def get_visits(request: web.Request) -> web.Response:
    """200 `[{at, visitor, server}]`: who else opened this person's servers, the newest first, by page."""
    name, page = request.match_info["user"], paging.asked_page(request)
    async with request.app[DB].read() as db:
        if await users.by_name(db, name) is None:
            raise NotFound(NO_ACCESS)
        rows, total = await store.visits(db, name, offset=page.offset, limit=page.limit)
    models = [{"at": clock.iso(row.at), "visitor": row.actor, "server": row.target} for row in rows]
    return paging.paged(request, page, models, total)


def model(row: AuditRow) -> dict[str, Any]:
    """A row as JSON."""
    return {name: getattr(row, name) for name in COLUMNS} | {"at": clock.iso(row.at)}


def _filter(request: web.Request) -> store.Filter:
    query = request.query
    kind = query.get("kind", "")
    if kind not in ("", ACCESS, CHANGE):
        raise BadRequest(f"kind is {kind[:30]!r}; it must be {ACCESS} or {CHANGE}")
    since, until = (read_moment(query[key], key) if query.get(key) else None for key in ("since", "until"))
    return store.Filter(kind, query.get("actor", ""), query.get("target_user", ""), since, until)


async def _csv(request: web.Request, wanted: store.Filter) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/csv; charset=utf-8",
            "Content-Disposition": 'attachment; filename="audit.csv"',
            "Cache-Control": "no-store",
        }
    )
    await response.prepare(request)
    await response.write(spreadsheet.lines([COLUMNS]))
    last: int | None = None
    while True:
        # A transaction for each part: a slow reader must not hold one open.
        async with request.app[DB].read() as db:
            rows = await store.before(db, wanted, last, limit=CHUNK)
        if not rows:
            break
        last = rows[-1].id
        await response.write(spreadsheet.lines(model(row).values() for row in rows))
    await response.write_eof()
    return response
