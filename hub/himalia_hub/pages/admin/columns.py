"""Which columns of the list a person wants to see; kept with the person, not with the browser."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.auth.forms import posted
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.admin.rows import COLUMNS, SHOWN
from himalia_hub.pages.paths import redirect
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.users import store as users

PREFERENCE = "admin.columns"


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.post(prefix + "admin/columns", choose)]


@signed_in
async def choose(request: web.Request) -> web.Response:
    """303 back to the list, with the columns that were ticked, in our order."""
    identity = viewer.must_be(request)
    ticked = {value for value in (await posted(request)).getall("column", []) if isinstance(value, str)}
    shown: dict[str, Any] = {"shown": [name for name in COLUMNS if name in ticked]}
    async with request.app[DB].begin() as db:
        await users.prefer(db, identity.person, PREFERENCE, shown)
    query = request.rel_url.raw_query_string
    return redirect(f"{request.app[SETTINGS].hub_prefix}admin" + (f"?{query}" if query else ""), status=303)


async def of(db: AsyncSession, identity: Identity) -> tuple[str, ...]:
    """The columns that this viewer sees."""
    kept = await users.preference(db, identity.person, PREFERENCE)
    return SHOWN if kept is None else tuple(name for name in kept.get("shown", ()) if name in COLUMNS)
