"""The list's events: `row` and `gone` with their row, `use`, `counts` of the chips, `resync` to read anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Hashable
from dataclasses import asdict, replace

from aiohttp import web

from himalia_hub.keys import DB, SETTINGS
from himalia_hub.languages import spoken
from himalia_hub.pages.admin import columns, viewer
from himalia_hub.pages.admin.drawing import drawn
from himalia_hub.pages.admin.rows import May, may, rights_in_rows, row
from himalia_hub.pages.cards import use_of
from himalia_hub.pages.live import LIVE, Change, sse
from himalia_hub.pages.streaming import stream
from himalia_hub.rbac.guard import signed_in
from himalia_hub.rbac.identity import Identity

BREATH = 10
"""So many rows are drawn before others get a turn: a few milliseconds."""


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/events", events)]


@signed_in
async def events(request: web.Request) -> web.StreamResponse:
    """200 the stream; a viewer gets the rows that they may list, with the buttons that they may press."""
    who = viewer.must_be(request)
    live = request.app[LIVE]
    shown = await request.app[DB].read_in_one(lambda db: columns.of(db, who))

    async def draw(identity: Identity, changes: list[Change] | None, span: Hashable) -> str:
        only = viewer.listable(identity)
        text = sse("resync", "")
        if changes is not None:
            alike = span, rights_in_rows(identity), shown, spoken().tag
            text = await live.once(alike, lambda: _drawn(request, identity, shown, changes))
        return text + sse("counts", json.dumps(await live.once(("counts", only), lambda: live.counts(only))))

    return await stream(request, draw)


async def _drawn(
    request: web.Request, identity: Identity, shown: tuple[str, ...], changes: list[Change]
) -> str:
    """What these changes are to this viewer, and to all with the same rights, columns and language."""
    only, texts, used = viewer.listable(identity), [], {}
    for number, change in enumerate(changes):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        rights = _rights(identity, only, change)
        if rights.see and change.found and change.only_use:
            used[change.row] = asdict(use_of(change.found.use))
        elif rights.see:
            texts.append(_event(request, rights, shown, change))
    return "".join(texts) + (sse("use", json.dumps(used)) if used else "")


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
    settings = request.app[SETTINGS]
    return sse("row", drawn(row(found, settings), rights, shown, settings))
