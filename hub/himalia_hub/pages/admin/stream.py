"""The list's events: `row` and `gone` with their row, `use`, `counts` of the chips, `resync` to read anew."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from aiohttp import web

from himalia_hub import clock
from himalia_hub.keys import SETTINGS
from himalia_hub.languages import spoken
from himalia_hub.pages.admin import columns, viewer
from himalia_hub.pages.admin.rows import May, may, row
from himalia_hub.pages.cards import use_of
from himalia_hub.pages.live import LIVE, Change, sse
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
        if changes is None:
            text = sse("resync", "")
        else:
            mine = [(change, rights) for change in changes if (rights := _rights(identity, only, change)).see]
            used = {
                change.row: use_of(change.found.use) for change, _ in mine if change.found and change.only_use
            }
            text = "".join(_event(request, rights, shown, change) for change, rights in mine)
            text += sse("use", json.dumps({row: asdict(use) for row, use in used.items()})) if used else ""
        return text + sse("counts", json.dumps(await request.app[LIVE].counts(only)))

    return await stream(request, draw)


def _rights(identity: Identity, only: frozenset[str] | None, change: Change) -> May:
    """Of a viewer on a changed row. That a row is gone may be known by all: its number says nothing."""
    found = change.found
    if found is None:
        return May(see=True, start=False, stop=False, open=False, manage=False)
    rights = may(identity, found.user.name, found.server.name if found.server else "")
    return rights if only is None or found.user.name in only else replace(rights, see=False)


def _event(request: web.Request, rights: May, shown: tuple[str, ...], change: Change) -> str:
    found = change.found
    if found is None:
        return sse("gone", change.row)
    if change.only_use:
        return ""
    alike = rights, shown, spoken().tag
    html = change.drawn.get(alike)
    if html is None:
        settings = request.app[SETTINGS]
        html = change.drawn[alike] = (
            environment_of(settings)
            .get_template("row.html")
            .render(
                row=row(found, settings), may=rights, columns=shown, now=clock.now(), hub=settings.hub_prefix
            )
        )
    return sse("row", html)
