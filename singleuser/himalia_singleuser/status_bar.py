"""`api/himalia/…`, for our extension of the front ends: what the server uses, when the hub stops it and how that is put
off, what the hub announces.

The hub is asked with the server's own token, at most once in KEPT_S for all pages together, and only while a page asks.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from himalia_singleuser.answers import json_answer
from himalia_singleuser.auth.keys import AUTH
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.errors import NotFound
from himalia_singleuser.hub import HubClient, HubUnreachable
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.keys import SETTINGS
from himalia_singleuser.usage import Meter, Usage

KEPT_S = 30.0
NEAR_S = 400.0
"""A stop that is so near is asked for at each look: what puts it off elsewhere shows at once."""
MEASURED_S = 5.0


@dataclass(slots=True)
class Told:
    """What was learnt last, and when; `stop_at_s` in this process's own time."""

    meter: Meter = field(default_factory=Meter)
    usage: Usage | None = None
    measured_s: float = 0.0
    stop: dict[str, Any] | None = None
    stop_at_s: float | None = None
    announcements: list[dict[str, Any]] = field(default_factory=list)
    asked_s: float | None = None
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


TOLD = web.AppKey("TOLD", Told)


@authenticated
async def status(request: web.Request) -> web.Response:
    """200 `{usage: {memory, memory_limit, cpus, cpu_limit}, stop: {in_s, why, can_keep_alive} | null, announcements,
    safe_mode}`.

    Memory in bytes, processors as a number of them; a limit is null where none is known. 404 without a hub.
    """
    hub, told = _hub(request), request.app[TOLD]
    async with told.busy:
        await _measure(request.app, told)
        if _is_old(told):
            await _ask(hub, told)
    return json_answer(_model(request, told))


@authenticated
async def keep_alive(request: web.Request) -> web.Response:
    """200 the same, with the new stop; 502 when the hub does not answer."""
    hub, told = _hub(request), request.app[TOLD]
    async with told.busy:
        stop = await hub.keep_alive()
        if stop is None:
            raise NotFound("This hub cannot keep a server alive")
        _set_stop(told, stop)
        await _measure(request.app, told)
    return json_answer(_model(request, told))


async def _measure(app: web.Application, told: Told) -> None:
    if told.usage is None or time.monotonic() - told.measured_s > MEASURED_S:
        pool = app.get(KERNELS)
        kernels = [kernel.pid for kernel in pool.all() if kernel.pid] if pool else []
        # Kernels may be nobody's children: those that outlived the server before this one.
        told.usage = await asyncio.to_thread(told.meter.look, [os.getpid(), *kernels])
        told.measured_s = time.monotonic()


def _is_old(told: Told) -> bool:
    now = time.monotonic()
    if told.asked_s is None or now - told.asked_s > KEPT_S:
        return True
    return told.stop_at_s is not None and told.stop_at_s - now < NEAR_S and now - told.asked_s > MEASURED_S


async def _ask(hub: HubClient, told: Told) -> None:
    """A hub that is away changes nothing: what it said last still holds."""
    told.asked_s = time.monotonic()
    try:
        stop, announcements = await asyncio.gather(hub.stop_time(), hub.announcements())
    except HubUnreachable:
        return
    _set_stop(told, stop)
    told.announcements = announcements


def _set_stop(told: Told, stop: dict[str, Any] | None) -> None:
    in_s = stop.get("in_s") if stop else None
    known = stop is not None and isinstance(in_s, int | float)
    told.stop = stop if known else None
    told.stop_at_s = time.monotonic() + float(in_s or 0) if known else None


def _model(request: web.Request, told: Told) -> dict[str, Any]:
    environ = request.app[SETTINGS].environ
    stop = None
    if told.stop is not None and told.stop_at_s is not None:
        stop = {
            "in_s": round(told.stop_at_s - time.monotonic(), 1),
            "why": str(told.stop.get("why", "")),
            "can_keep_alive": told.stop.get("can_keep_alive") is True,
        }
    return {
        "usage": {
            "memory": told.usage.memory if told.usage else None,
            "memory_limit": _limit(environ.get("MEM_LIMIT", "")),
            "cpus": round(told.usage.cpus, 3) if told.usage and told.usage.cpus is not None else None,
            "cpu_limit": _limit(environ.get("CPU_LIMIT", "")),
        },
        "stop": stop,
        "announcements": told.announcements,
        "safe_mode": environ.get("HIMALIA_SAFE_MODE") == "1",
    }


def _limit(text: str) -> float | None:
    """A limit as JupyterHub's spawners tell it in the environment: bytes, or processors."""
    try:
        return float(text) or None
    except ValueError:
        return None


def _hub(request: web.Request) -> HubClient:
    hub = request.app[AUTH].hub
    if hub is None:
        raise NotFound("This server has no hub")
    return hub


async def begin(app: web.Application) -> Any:
    """One memory for all pages."""
    app[TOLD] = Told()
    yield


lifetimes = [begin]
routes = [
    web.get("/api/himalia/status", status, allow_head=False),
    web.post("/api/himalia/keep-alive", keep_alive),
]
