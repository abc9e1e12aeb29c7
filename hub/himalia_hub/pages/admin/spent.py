"""What people and groups used, by day, week or month; as a table and as CSV."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from urllib.parse import urlencode

from aiohttp import web

from himalia_hub import clock, spreadsheet
from himalia_hub.keys import DB
from himalia_hub.pages import charts
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity
from himalia_hub.usage import report
from himalia_hub.usage.quota import Period, window
from himalia_hub.usage.report import Span, Spent

SHOWN = 500
BY = ("person", "group")
COLUMNS = ("from", "until", "name", "server_hours", "memory_gib_hours")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which sums: `by` person or group, in the period that `on` lies in."""

    by: str
    period: Period
    on: datetime

    @property
    def window(self) -> tuple[datetime, datetime]:
        """The first midnight, and the one after the last day."""
        return window(self.period, self.on)

    @property
    def query(self) -> str:
        """As it stands in the address."""
        return urlencode({"by": self.by, "period": self.period, "on": f"{self.on:%Y-%m-%d}"})

    def to(self, **change: Any) -> str:
        """The address's query with something else."""
        return replace(self, **change).query


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/usage", spent), web.get(prefix + "admin/usage.csv", spent_as_csv)]


def asked_of(request: web.Request, now: datetime) -> Asked:
    """From the query; what cannot be is as if it were not there."""
    by, period = request.query.get("by", ""), request.query.get("period", "")
    try:
        on = datetime.strptime(request.query.get("on", ""), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        on = now
    if on > now or on.year < 2000:
        on = now
    known: Period = period if period in get_args(Period) else "month"  # type: ignore[assignment]
    return Asked(by if by in BY else "person", known, on)


@signed_in
async def spent(request: web.Request) -> web.Response:
    """200 who used how much in one period, the most first."""
    identity, now = viewer.must_be(request), clock.now()
    asked = asked_of(request, now)
    rows = await _rows(request, identity, asked, now)
    begins, ends = asked.window
    bars: tuple[charts.Bar, ...] = ()
    if viewer.listable(identity) is None and asked.period != "day":
        async with request.app[DB].read() as db:
            days = await report.by_days(db, Span(begins, ends, now))
        bars = charts.bars([(day.date(), hours) for day, hours in days])
    return await page(
        request,
        "admin_usage.html",
        asked=asked,
        rows=sorted(rows, key=lambda row: -row.hours)[:SHOWN],
        left_out=max(0, len(rows) - SHOWN),
        total=Spent("", sum(row.hours for row in rows), sum(row.memory_hours for row in rows)),
        begins=begins,
        last=ends - timedelta(days=1),
        before=begins - timedelta(days=1),
        after=ends if ends <= now else None,
        bars=bars,
    )


@signed_in
async def spent_as_csv(request: web.Request) -> web.Response:
    """200 the same as CSV, everybody of them, by name."""
    identity, now = viewer.must_be(request), clock.now()
    asked = asked_of(request, now)
    begins, ends = (f"{moment:%Y-%m-%d}" for moment in asked.window)
    rows = await _rows(request, identity, asked, now)
    lines = [(begins, ends, row.name, f"{row.hours:.6f}", f"{row.memory_hours:.6f}") for row in rows]
    name = f"usage-by-{asked.by}-{asked.period}-{begins}.csv"
    return web.Response(
        body=spreadsheet.lines([COLUMNS, *lines]),
        content_type="text/csv",
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


async def _rows(request: web.Request, identity: Identity, asked: Asked, now: datetime) -> list[Spent]:
    """Of those whose use this viewer may read."""
    span = Span(*asked.window, now)
    async with request.app[DB].read() as db:
        if asked.by == "group":
            found = await report.by_group(db, span)
            return [one for one in found if identity.allows("read:groups", group=one.name)]
        found = await report.by_person(db, span)
    return [one for one in found if identity.allows("read:users", user=one.name)]
