"""The last lines of the hub that answers, and of one server, without secrets. Each hub remembers its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from aiohttp import web

from himalia_hub import logs
from himalia_hub.errors import NotFound
from himalia_hub.keys import DB, SPAWNER
from himalia_hub.languages import gettext
from himalia_hub.pages.admin import viewer
from himalia_hub.pages.render import page
from himalia_hub.rbac.guard import signed_in
from himalia_hub.servers import store
from himalia_spawner.errors import SpawnError

SHOWN = 200
FIELDS = ("user", "request", "level", "server")
LEVELS = ("debug", "info", "warning", "error", "critical")
HEAD = frozenset({"timestamp", "level", "event", "request_id", "user", "service"})
"""What stands before the rest of an event."""
PEOPLE = ("user", "service", "owner", "actor", "target_user")
"""Fields of events that name whom they are about."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event: when, how grave, what, who, of which request, and the rest as `key=value`."""

    at: str
    level: str
    event: str
    who: str
    request_id: str
    rest: str


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [web.get(prefix + "admin/logs", show)]


@signed_in
async def show(request: web.Request) -> web.Response:
    """200 the last lines, the newest first, narrowed by `user`, `request` (an id), `level` (at least); or, with
    `server` (OWNER or OWNER/NAME), the last ones of that server.
    """
    viewer.must_be(request, "read:logs")
    asked = {name: request.query.get(name, "").strip()[:255] for name in FIELDS}
    problem, tail = "", None
    if asked["server"]:
        try:
            tail = await _of_server(request, asked["server"])
        except (NotFound, SpawnError) as error:
            problem = str(error)
    lines = list(islice(chosen(reversed(logs.RECENT), asked), SHOWN))
    return await page(
        request,
        "admin_logs.html",
        asked=asked,
        lines=lines,
        tail=tail,
        problem=problem,
        levels=LEVELS,
        kept=logs.KEPT,
        where=gettext("%(host)s, process %(number)s") % {"host": socket.gethostname(), "number": os.getpid()},
    )


def chosen(events: Iterable[Mapping[str, str]], asked: Mapping[str, str]) -> Iterable[Line]:
    """The events that match all that is asked. Pure."""
    least = LEVELS.index(asked["level"]) if asked["level"] in LEVELS else 0
    for event in events:
        level = event.get("level", "info")
        grave = LEVELS.index(level) if level in LEVELS else least
        about = any(event.get(key) == asked["user"] for key in PEOPLE)
        if grave < least or (asked["user"] and not about):
            continue
        if asked["request"] and event.get("request_id") != asked["request"]:
            continue
        yield Line(
            at=event.get("timestamp", "").partition(".")[0].replace("T", " "),
            level=level,
            event=event.get("event", ""),
            who=event.get("user") or event.get("service") or "",
            request_id=event.get("request_id", ""),
            rest="  ".join(f"{key}={value}" for key, value in event.items() if key not in HEAD),
        )


async def _of_server(request: web.Request, wanted: str) -> list[str]:
    """What a server wrote last, without what looks like a secret."""
    identity = viewer.must_be(request, "read:logs")
    owner, _, name = wanted.partition("/")
    async with request.app[DB].read() as db:
        server = await store.find(db, owner, name)
    if server is None or not identity.allows("read:servers", user=owner, server=name):
        raise NotFound(f"There is no server {wanted!r}, or it is not yours to see.")
    lines = await request.app[SPAWNER].logs(server.backend_name, SHOWN)
    return [logs.mask_text(line) for line in lines]
