"""Tells the hub when somebody last worked here, checks its release at the start, and ends an idle server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from himalia_singleuser.answers import iso
from himalia_singleuser.auth.keys import AUTH
from himalia_singleuser.hub import HubClient, HubUnreachable
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.keys import ACTIVITY, SETTINGS, SHUTDOWN, Activity
from himalia_singleuser.middleware import HUB_PROTOCOL_VERSION
from himalia_singleuser.terminals.pool import TERMINALS

log = structlog.get_logger(__name__)

RETRY_S = 60.0
FIRST_S = 4.0
"""So long, or half of that, the hub is left alone at first: in these moments it lets a person in who waits, or starts
other servers, and it knows that this one is new."""


async def report_to_hub(app: web.Application) -> AsyncIterator[None]:
    """Runs beside the server for its whole life; does nothing without a hub."""
    hub = app[AUTH].hub
    if hub is None or not hub.settings.activity_url:
        yield
        return
    task = asyncio.create_task(_report(hub, app))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _report(hub: HubClient, app: web.Application) -> None:
    await asyncio.sleep(min(FIRST_S, hub.settings.activity_interval_s) * random.uniform(0.5, 1))  # noqa: S311
    await _check_version(hub)
    activity: Activity = app[ACTIVITY]
    reported = None
    while True:
        if hub.settings.busy_kernels_count and _computes(app):
            activity.touch()
        last = iso(activity.last)
        done = last == reported or await hub.report_activity(last)
        reported = last if done else reported
        # A thousand servers started together must not report together.
        pause = hub.settings.activity_interval_s * random.uniform(0.9, 1.1)  # noqa: S311
        await asyncio.sleep(pause if done else min(pause, RETRY_S * random.uniform(0.5, 1)))  # noqa: S311


def _computes(app: web.Application) -> bool:
    """Whether a cell runs. One that prints nothing for hours leaves no other trace, and must not be stopped as idle."""
    pool = app.get(KERNELS)
    return pool is not None and any(kernel.state.value == "busy" for kernel in pool.all())


async def _check_version(hub: HubClient) -> None:
    """A hub that is not there yet is waited for: this server is useful to nobody without it, but harmless."""
    for attempt in range(5):
        try:
            version = await hub.version()
        except HubUnreachable as error:
            log.warning("hub.unreachable", call="version", error=error.message, attempt=attempt + 1)
            await asyncio.sleep(2**attempt * random.uniform(0.5, 1))  # noqa: S311
            continue
        if version and version.split(".")[:1] != HUB_PROTOCOL_VERSION.split(".")[:1]:
            log.warning("hub.version_differs", hub=version, ours=HUB_PROTOCOL_VERSION)
        return


async def stop_when_idle(app: web.Application) -> AsyncIterator[None]:
    """Ends the server when the settings say so, nobody has asked for long and nothing runs."""
    limit_s = app[SETTINGS].stop_when_idle_s
    task = asyncio.create_task(_watch(app, limit_s)) if limit_s else None
    yield
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watch(app: web.Application, limit_s: float) -> None:
    """Counted by a clock that stands while the machine sleeps: what it slept through is no idleness."""
    seen, since = app[ACTIVITY].last, time.monotonic()
    while True:
        await asyncio.sleep(app[SETTINGS].looks_every_s(limit_s))
        if app[ACTIVITY].last != seen or app[KERNELS].kernel_count() or app[TERMINALS].all():
            seen, since = app[ACTIVITY].last, time.monotonic()
        elif time.monotonic() - since > limit_s:
            log.info("server.idle", seconds=limit_s)
            for end in app[SHUTDOWN]:
                end()
            since = time.monotonic()


lifetimes = [report_to_hub, stop_when_idle]
