"""The list of people and servers. Its address is its state: `q`, `sort`, `page`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.keys import DB, SETTINGS
from himalia_hub.languages import later
from himalia_hub.pages.admin import columns, listing, viewer
from himalia_hub.pages.admin.lines import made_of
from himalia_hub.pages.admin.listing import CHIPS, PAGE_SIZE, SORTS, Page, Wanted
from himalia_hub.pages.admin.query import EXAMPLES, parse
from himalia_hub.pages.admin.rows import COLUMNS, may, rights_in_rows
from himalia_hub.pages.kept import Shown, kept_page
from himalia_hub.pages.live import LIVE
from himalia_hub.pages.render import moment_of_rows, wants_fragment
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.signups import store as signups

CHIP_TITLES = {
    "all": (later("Everything"), ""),
    "running": (later("Running"), "ready"),
    "starting": (later("Starting"), "starting"),
    "failed": (later("Failed"), "failed"),
    "idle": (later("Idle over 1 h"), "stopped"),
    "ephemeral": (later("Ephemeral"), ""),
    "admins": (later("Admins"), ""),
}


@dataclass(frozen=True, slots=True)
class Where:
    """What of the list is shown."""

    q: str = ""
    sort: str = "user"
    page: int = 1

    @property
    def query(self) -> str:
        """The address's query, without what is as it is anyway; empty, or with its question mark."""
        parts: dict[str, str | int] = {"q": self.q} if self.q else {}
        parts |= {"sort": self.sort} if self.sort != "user" else {}
        parts |= {"page": self.page} if self.page > 1 else {}
        return f"?{urlencode(parts)}" if parts else ""

    def to(self, **change: Any) -> str:
        """The query of the same list with something else; another order or filter begins at its first page."""
        return replace(self, **({"page": 1} | change)).query or "?"

    def turned(self, column: str) -> str:
        """The query that sorts by this column: first one way, then the other."""
        return self.to(sort=f"-{column}" if self.sort == column else column)

    def aria(self, column: str) -> str:
        """`aria-sort` of a column."""
        return {column: "ascending", f"-{column}": "descending"}.get(self.sort, "none")


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin", admin)]


def where_of(fields: Any) -> Where:
    """From a query or a form; what cannot be is as if it were not there."""
    number, sort = str(fields.get("page", "1")), str(fields.get("sort", "user"))
    valid = number.isascii() and number.isdigit() and len(number) < 7
    return Where(
        str(fields.get("q", "")).strip()[:255],
        sort if sort.removeprefix("-") in SORTS else "user",
        max(int(number), 1) if valid else 1,
    )


@signed_in
async def admin(request: web.Request) -> web.Response:
    """200 one page of the list; only the list itself for our script."""
    identity = viewer.must_be(request)
    template = "fragment_list.html" if wants_fragment(request) else "admin.html"
    seen_by = identity.person, identity.name, identity.scopes, rights_in_rows(identity)
    return await kept_page(request, template, seen_by, lambda: _shown(request, identity))


async def _shown(request: web.Request, identity: Identity) -> Shown:
    """What the templates show of the list at this address, to who holds these rights."""
    where, now, settings = where_of(request.query), clock.now(), request.app[SETTINGS]
    only, query = viewer.listable(identity), parse(where.q)
    # Named before the rows are read: what changes in between makes the page read them again.
    at = await moment_of_rows(request)

    async def read(db: AsyncSession) -> tuple[Page, int, tuple[str, ...]]:
        page = await listing.page_of(
            db,
            Wanted(query, where.sort, only),
            now=now,
            offset=(where.page - 1) * PAGE_SIZE,
            limit=PAGE_SIZE,
            counted=not query.terms,
        )
        waiting = await signups.count(db) if identity.allows("admin:users") else 0
        return page, waiting, await columns.of(db, identity)

    # Asked for together they are found in one visit to the database.
    counts, (found, waiting, shown) = await asyncio.gather(
        request.app[LIVE].counts(only), request.app[DB].read_in_one(read)
    )
    total = found.total if query.terms else counts["all"]
    lines = made_of(found, settings, request.app[DB].engine.dialect, now)
    rights = [may(identity, one.row.card.owner, one.row.card.name) for one in lines]
    rows = [
        one.html(right, shown, settings, now) for one, right in zip(lines, rights, strict=True) if right.see
    ]
    frame = {
        "changeable": any(right.change for right in rights),
        "can_add": identity.allows("admin:users"),
        "waiting": waiting,
        "total": total,
        "where": where,
        "query": query,
        "pages": max(-(-total // PAGE_SIZE), 1),
        "first": (where.page - 1) * PAGE_SIZE + 1,
        "columns": shown,
        "chips": tuple(
            (name, title, icon, CHIPS.get(name, ""), counts[name])
            for name, (title, icon) in CHIP_TITLES.items()
        ),
    }
    return Shown(rows, at, frame, always={"examples": EXAMPLES, "every_column": COLUMNS})
