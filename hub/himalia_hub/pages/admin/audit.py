"""Who did what, to whom, from where, and how it ended: the audit as a page. Its CSV is the API's."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from himalia_hub.audit import store
from himalia_hub.audit.record import ACCESS, CHANGE
from himalia_hub.errors import BadRequest
from himalia_hub.keys import DB
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.admin.listpage import where_of
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.servers.activity import read_moment

PAGE_SIZE = 50
FIELDS = ("kind", "actor", "target_user", "since", "until")


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/audit", audit)]


@signed_in
async def audit(request: web.Request) -> web.Response:
    """200 one page of the rows, the newest first, narrowed by the form above them."""
    viewer.must_be(request, "read:audit")
    asked = {name: request.query.get(name, "").strip()[:255] for name in FIELDS}
    number, problem = where_of(request.query).page, ""
    try:
        wanted = _filter(asked)
    except BadRequest as wrong:
        wanted, problem = None, wrong.message
    rows, total = [], 0
    if wanted is not None:
        async with request.app[DB].read() as db:
            found, total = await store.page_of(db, wanted, offset=(number - 1) * PAGE_SIZE, limit=PAGE_SIZE)
            rows = list(found)
    query = urlencode({name: value for name, value in asked.items() if value})
    return await page(
        request,
        "admin_audit.html",
        rows=rows,
        total=total,
        asked=asked,
        problem=problem,
        number=number,
        pages=max(-(-total // PAGE_SIZE), 1),
        query=f"&{query}" if query else "",
    )


def _filter(asked: dict[str, str]) -> store.Filter:
    since, until = (read_moment(asked[name], name) if asked[name] else None for name in ("since", "until"))
    kind = asked["kind"] if asked["kind"] in (ACCESS, CHANGE) else ""
    return store.Filter(kind, asked["actor"], asked["target_user"], since, until)
