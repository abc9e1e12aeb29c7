"""The list's events: `row` and `gone` with their row, `counts` of the chips, `resync` when a page must read anew."""

from __future__ import annotations

import json

from aiohttp import web

from himalia_hub import clock
from himalia_hub.keys import LIVE, SETTINGS
from himalia_hub.pages.admin import columns, viewer
from himalia_hub.pages.admin.rows import may, row
from himalia_hub.pages.live import Change, sse
from himalia_hub.pages.render import environment_of
from himalia_hub.pages.streaming import stream
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/events", events)]


@signed_in
async def events(request: web.Request) -> web.StreamResponse:
    """200 the stream; a viewer gets the rows that they may list, with the buttons that they may press."""
    viewer.must_be(request)
    shown = await columns.of(request)

    async def draw(identity: Identity, changes: list[Change] | None) -> str:
        only = viewer.listable(identity)
        text = (
            sse("resync", "")
            if changes is None
            else "".join(_event(request, identity, only, shown, change) for change in changes)
        )
        return text + sse("counts", json.dumps(await request.app[LIVE].counts(only)))

    return await stream(request, draw)


def _event(
    request: web.Request,
    identity: Identity,
    only: frozenset[str] | None,
    shown: tuple[str, ...],
    change: Change,
) -> str:
    found = change.found
    if found is None:
        return sse("gone", change.row)
    name = found.server.name if found.server else ""
    rights = may(identity, found.user.name, name)
    if not rights.see or (only is not None and found.user.name not in only):
        return ""
    html = change.drawn.get((rights, shown))
    if html is None:
        settings = request.app[SETTINGS]
        html = change.drawn[(rights, shown)] = (
            environment_of(settings)
            .get_template("row.html")
            .render(
                row=row(found, settings), may=rights, columns=shown, now=clock.now(), hub=settings.hub_prefix
            )
        )
    return sse("row", html)
