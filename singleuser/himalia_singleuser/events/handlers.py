"""`api/events`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime

from aiohttp import WSCloseCode, web

from himalia_singleuser.answers import json_body
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.errors import BadRequest
from himalia_singleuser.events.bus import EventBus, Subscriber
from himalia_singleuser.fields import needed_text, object_field, text_field
from himalia_singleuser.keys import EVENTS
from himalia_singleuser.sockets import Socket, accept, wants_upgrade

EVENT_BUS = web.AppKey("EVENT_BUS", EventBus)
WITH_OFFSET_AND_Z = re.compile(r"([+-]\d\d:?\d\d)Z$")
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


@authenticated
async def subscribe(request: web.Request) -> web.StreamResponse:
    """Every event from now on, one text frame each."""
    if not wants_upgrade(request):
        raise BadRequest("This address speaks WebSocket only; the request has no `Upgrade: websocket`.")
    bus = request.app[EVENT_BUS]
    async with accept(request) as socket:
        subscriber = bus.subscribe()
        writing = asyncio.create_task(_write(subscriber, socket))
        try:
            async for _ in socket.frames():
                pass
        finally:
            bus.unsubscribe(subscriber)
            writing.cancel()
            await asyncio.wait([writing])
    return socket.ws


@authenticated
async def post_event(request: web.Request) -> web.Response:
    """Tell the subscribers of something that happened on the client's side."""
    body = await json_body(request)
    if body is None:
        raise BadRequest("No JSON data provided")
    if "data" not in body:
        raise BadRequest("Missing field in JSON data: data")
    _check_time(text_field(body, "timestamp"))
    version = body.get("version")
    if not isinstance(version, str | int):
        raise BadRequest("Missing field in JSON data: version")
    request.app[EVENT_BUS].post(needed_text(body, "schema_id"), str(version), object_field(body, "data"))
    return web.Response(status=204)


async def _write(subscriber: Subscriber, socket: Socket) -> None:
    with suppress(ConnectionError):
        while not subscriber.lost.is_set():
            await socket.send(await subscriber.queue.get(), text=True)
        await socket.close(WSCloseCode.TRY_AGAIN_LATER, "this client reads too slowly")


def _check_time(stamp: str) -> None:
    if not stamp:
        return
    try:
        # Stock wants a literal Z behind the offset; with and without are understood.
        datetime.strptime(WITH_OFFSET_AND_Z.sub(r"\1", stamp), TIME_FORMAT).astimezone()
    except ValueError:
        raise BadRequest(f"timestamp {stamp!r} is not like 2026-11-23T19:51:46+0000Z") from None


async def events_lifetime(app: web.Application) -> AsyncIterator[None]:
    """Wanted by contents and kernels: list it before them."""
    app[EVENT_BUS] = bus = EventBus()
    app[EVENTS] = bus
    yield


routes: list[web.RouteDef] = [
    web.get("/api/events/subscribe", subscribe, allow_head=False),
    web.post("/api/events", post_event),
]
lifetimes = [events_lifetime]
