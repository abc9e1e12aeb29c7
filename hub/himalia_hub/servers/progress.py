"""Server-sent events of a start or stop, read from rows: any replica can serve them, a reload loses nothing."""

from __future__ import annotations

import asyncio
import html
import json
import time

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.errors import BadRequest, NotFound
from himalia_hub.keys import DB, DOORBELL, MEMO, SETTINGS, TOGETHER
from himalia_hub.languages import sentence
from himalia_hub.rbac.guard import scoped
from himalia_hub.rbac.still import Still
from himalia_hub.servers import queue, store
from himalia_hub.servers.models import Server, ServerEvent
from himalia_hub.servers.state import Phase
from himalia_hub.servers.view import pending, ready, server_url

KEEP_ALIVE_S = 8.0
LOOK_S = 4.0
"""Between looks at a row for which no bell rang: of a crowd that starts, each waits for one, and more looks would take
the processor from what they wait for."""
LOOK_IN_QUEUE_S = 1.0
"""The same while a start waits for its turn: no bell rings for those behind the one that gets a place."""


@scoped("read:servers")
async def progress(request: web.Request) -> web.StreamResponse:
    """200 `text/event-stream`: `{"progress", "message"}` …, then one with `ready` or `failed`; 400 when not starting.

    While a start waits for a place, `place` says how many are before it, counted from 1, whenever that changes.

    Each event carries its row's id, so a browser that reconnects with `Last-Event-ID` goes on where it was. It ends for
    whoever is signed out, or may not know of the server any more.
    """
    username, name = request.match_info["user"], request.match_info.get("server", "")
    server = await request.app[DB].read_in_one(lambda db: store.find(db, username, name))
    if server is None:
        raise NotFound(f"{username} has no server {name!r} that was ever started")
    if not ready(server) and pending(server) is None and server.phase is not Phase.FAILED:
        raise BadRequest(f"{username}'s server {name or 'default'!r} is not starting")
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    try:
        await _follow(request, response, server, username)
        await response.write_eof()
    except (ConnectionResetError, asyncio.CancelledError):
        if asyncio.current_task() and asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise
    return response


async def _follow(request: web.Request, response: web.StreamResponse, server: Server, username: str) -> None:
    after = request.headers.get("Last-Event-ID", "")
    last = int(after) if after.isascii() and after.isdigit() else 0
    generation, spoke, told, still = server.generation, time.monotonic(), 0, Still(request)

    async def look(db: AsyncSession) -> tuple[Server | None, list[ServerEvent]]:
        row = await store.by_id(db, server.id)
        return row, await store.events_after(db, server.id, generation, last)

    with request.app[DOORBELL].watch(server.id) as watch:
        while True:
            row, events = await request.app[DB].read_in_one(look)
            if row is None or not await still.may():
                return
            for event in events:
                last, spoke = event.id, time.monotonic()
                if event.kind == "info":
                    await _send(response, event, {})
            if row.generation != generation:
                generation = row.generation
                continue
            place = (
                0
                if row.queued_at is None
                else (await queue.places(request.app[MEMO], request.app[SETTINGS].servers)).get(row.id, told)
            )
            if place not in (0, told):
                told, spoke = place, time.monotonic()
                await _write(
                    response, last, {"progress": 0, "message": sentence(queue.words(place)), "place": place}
                )
            end = _end(request, row, username)
            if end is not None:
                await _write(response, last, end)
                return
            if time.monotonic() - spoke > KEEP_ALIVE_S:
                await response.write(b"\n\n")
                spoke = time.monotonic()
            if request.app[TOGETHER].leaving.is_set():
                return  # whoever comes back with `Last-Event-ID` is told the rest by another hub
            await watch.wait(min(LOOK_S if row.queued_at is None else LOOK_IN_QUEUE_S, still.next_s))


def _end(request: web.Request, row: Server, username: str) -> dict[str, object] | None:
    if ready(row):
        url = server_url(request.app[SETTINGS], username, row.name)
        message = f"Server ready at {url}"
        link = f'Server ready at <a href="{html.escape(url)}">{html.escape(url)}</a>'
        return {"progress": 100, "ready": True, "message": message, "html_message": link, "url": url}
    if pending(row) is not None:
        return None
    if row.phase is Phase.FAILED and row.failure:
        message = f"The server {row.failure.get('cause')}: {row.failure.get('message')}"
        return {"progress": 100, "failed": True, "message": sentence(message)}
    return {"progress": 100, "failed": True, "message": sentence("The server was stopped")}


async def _send(response: web.StreamResponse, event: ServerEvent, more: dict[str, object]) -> None:
    body = {"progress": event.progress, "message": sentence(event.message), "at": clock.iso(event.at)} | more
    await _write(response, event.id, body)


async def _write(response: web.StreamResponse, event_id: int, body: dict[str, object]) -> None:
    await response.write(f"id: {event_id}\ndata: {json.dumps(body)}\n\n".encode())
