"""The only place where the parts of the hub are joined."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from himalia_hub import clock, ending, info, lean, middleware, openapi, reloading
from himalia_hub.audit import handlers as audit
from himalia_hub.audit import store as audit_store
from himalia_hub.audit import visits
from himalia_hub.auth import account, elsewhere, first_password, login, run_out, setup, suspend
from himalia_hub.auth.cutting import CUTTER, Cutter
from himalia_hub.auth.door import DOOR, make_door
from himalia_hub.auth.vault import VAULT, Vault
from himalia_hub.bulk import work
from himalia_hub.db import checkpoints, lease
from himalia_hub.db.memo import Memo
from himalia_hub.ephemeral import about, make_link, sessions
from himalia_hub.ephemeral import handlers as links
from himalia_hub.ephemeral import store as launches
from himalia_hub.ephemeral.admission import Admission
from himalia_hub.ephemeral.listeners import Listeners
from himalia_hub.ephemeral.queue import Queue
from himalia_hub.groups import handlers as groups
from himalia_hub.keys import (
    DB,
    DOORBELL,
    FIGURES,
    LAUNCH_BELL,
    LAUNCH_DOOR,
    LAUNCH_LISTENERS,
    LAUNCH_QUEUE,
    MEMO,
    PROXY,
    ROUTES_WAKE_UP,
    SECRETS,
    SETTINGS,
    SPAWNER,
    TOGETHER,
    WORLD,
)
from himalia_hub.languages import choosing
from himalia_hub.measures import work as measures
from himalia_hub.metrics import handlers as metrics
from himalia_hub.notices import handlers as notices
from himalia_hub.notices import store as notice_store
from himalia_hub.oauth import handlers as oauth
from himalia_hub.oauth.models import OAuthCode
from himalia_hub.pages import live
from himalia_hub.pages import routes as page_routes
from himalia_hub.pages.beside import lead_home
from himalia_hub.replicas import cuts as cut_store
from himalia_hub.replicas import presence
from himalia_hub.replicas import store as replica_store
from himalia_hub.roles import handlers as roles
from himalia_hub.roles import store as role_store
from himalia_hub.routes import following, sync
from himalia_hub.routes import handlers as proxy_api
from himalia_hub.servers import awake, cull, listen, loop, orphans, stop_time
from himalia_hub.servers import handlers as servers
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.loop import Owner
from himalia_hub.servers.world import World
from himalia_hub.services import handlers as services
from himalia_hub.services import supervise
from himalia_hub.shares import handlers as shares
from himalia_hub.shares import store as share_store
from himalia_hub.signups import handlers as signups
from himalia_hub.tokens import handlers as tokens
from himalia_hub.tokens import store as token_store
from himalia_hub.usage import handlers as usage
from himalia_hub.users import handlers as users
from himalia_hub.users.models import Login

log = structlog.get_logger()


PURGE_EVERY_S = 3600.0
LAUNCHES_KEPT = timedelta(days=7)
"""How long one can read what became of an opened link."""
ANNOUNCEMENTS_KEPT = timedelta(days=90)
"""How long one can read, and say again, what was announced."""
CUTS_KEPT = timedelta(days=1)
"""How long what no hub could have cut waits for one that can."""
MAX_BODY = 16 * 1024 * 1024


def make_app(
    world: World, *, routes_wake_up: asyncio.Event | None = None, loops: bool = True
) -> web.Application:
    """The hub as an aiohttp application. With `loops=False` it serves but works on nothing (for tests)."""
    app = web.Application(middlewares=middleware.stack(lead_home), client_max_size=MAX_BODY)
    app[SETTINGS], app[DB], app[SECRETS] = world.settings, world.db, world.secrets
    app[MEMO], app[FIGURES], app[TOGETHER] = Memo(world.db), world.figures, world.together
    app[SPAWNER], app[PROXY], app[DOORBELL], app[WORLD] = world.spawner, world.proxy, world.doorbell, world
    app[CUTTER] = Cutter(app)
    app[VAULT] = Vault.of(world.settings, world.secrets)
    app[DOOR] = make_door(world.settings, world.db, app[VAULT])
    app.cleanup_ctx.append(_door)
    app.on_shutdown.append(following.end_streams)
    app[visits.LAST] = {}
    app[ending.ENDING], app[reloading.RELOADER] = ending.Ending(), reloading.Reloader()
    app[LAUNCH_BELL], app[LAUNCH_QUEUE] = Doorbell(), Queue(world.db)
    app[LAUNCH_LISTENERS] = Listeners(world.db)
    app[LAUNCH_DOOR] = Admission(world.db, app[LAUNCH_BELL], lambda: app[SETTINGS].ephemeral)
    live.install(app)
    work.install(app)
    app[ROUTES_WAKE_UP] = routes_wake_up or asyncio.Event()
    middleware.install(app)
    app.add_routes(all_routes(world.settings.hub_prefix, world.settings.base_url))
    if loops:
        app.cleanup_ctx.append(_loops)
    return app


def all_routes(prefix: str, base_url: str) -> list[web.RouteDef]:
    """Every handler path of the hub; the order decides where patterns overlap, so pages with wildcards come last."""
    features = (
        info, openapi, ending, reloading, audit, users, groups, servers, stop_time, tokens, services, roles, shares,
        usage, oauth, notices, proxy_api, following, metrics, login, account, elsewhere, suspend, setup, signups,
        first_password, choosing,
    )  # fmt: skip
    table: list[web.RouteDef] = []
    for feature in features:
        table += feature.routes(prefix)
    return [
        *table,
        *links.routes(prefix, base_url),
        *about.routes(base_url),
        *make_link.routes(prefix, base_url),
        *sessions.routes(prefix),
        *page_routes(prefix, base_url),
    ]


async def _door(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[DOOR].close()


async def _loops(app: web.Application) -> AsyncIterator[None]:
    """The background work, in one task group; if one part dies of a bug the hub ends rather than going on deaf."""
    world = app[WORLD]
    owner = Owner(world.settings.data_dir)
    await presence.join(world, owner.name)
    running = asyncio.create_task(_run_loops(app, owner), name="hub.loops")
    running.add_done_callback(_end_hub_on_failure)
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with contextlib.suppress(SQLAlchemyError, OSError):
        async with world.db.begin() as db:
            await lease.give_up(db, owner.name)
            await replica_store.forget(db, owner.name, now=clock.now())


async def _run_loops(app: web.Application, owner: Owner) -> None:
    world = app[WORLD]
    parts: dict[str, Coroutine[Any, Any, None]] = {
        "servers": loop.run(world, owner),
        "routes": sync.run(world, app[ROUTES_WAKE_UP], owner.name),
        "listen": listen.run(world.db, world.doorbell, world.together.heard, world.together.cuts),
        "presence": presence.run(world, app[ROUTES_WAKE_UP], partial(reloading.as_asked, app)),
        "orphans": orphans.run(world),
        "awake": awake.run(world),
        "cull": cull.run(world, owner.name),
        "measures": measures.run(world, owner.name),
        "tick": metrics.tick(world.figures),
        "lean": lean.give_back(),
        "checkpoints": checkpoints.run(world.db),
        "services": supervise.run(world, owner.name),
        "run_out": run_out.run(app),
        "cuts": app[CUTTER].run(),
        "purge": _purge(world, owner.name),
    }
    if world.settings.ephemeral.on:  # else its 25 modules are never loaded
        from himalia_hub.ephemeral.works import Works

        works = Works(world, app[LAUNCH_BELL], app[LAUNCH_DOOR], app[LAUNCH_LISTENERS], owner.name)
        parts["launches"] = works.run()
    async with asyncio.TaskGroup() as group:
        for name, part in parts.items():
            group.create_task(part, name=f"hub.{name}")


def _end_hub_on_failure(task: asyncio.Task[None]) -> None:
    if task.cancelled() or task.exception() is None:
        return
    log.critical("hub.loop_failed", exc_info=task.exception())
    signal.raise_signal(signal.SIGTERM)


async def _purge(world: World, owner: str) -> None:
    """Delete what has expired: tokens, roles, shares, sign-ins, codes; in one replica at a time."""
    while True:
        try:
            async with world.db.begin() as db:
                now = clock.now()
                if await lease.take(db, "purge", owner, now=now, ttl=timedelta(seconds=PURGE_EVERY_S / 2)):
                    over = now - run_out.BACK
                    await token_store.purge_expired(db, now=over)
                    await role_store.purge(db, now=over)
                    await share_store.purge(db, now=over)
                    await cut_store.purge(db, done_before=over, made_before=now - CUTS_KEPT)
                    await db.execute(sa.delete(Login).where(Login.expires_at <= now))
                    if world.settings.audit.keep_days:
                        kept = timedelta(days=world.settings.audit.keep_days)
                        await audit_store.purge(db, older_than=now - kept)
                    await notice_store.purge(db, older_than=now - ANNOUNCEMENTS_KEPT)
                    await launches.purge(db, older_than=now - LAUNCHES_KEPT)
                    await db.execute(sa.delete(OAuthCode).where(OAuthCode.expires_at <= now))
        except (SQLAlchemyError, OSError) as error:
            log.warning("purge.failed", error=type(error).__name__)
        await asyncio.sleep(PURGE_EVERY_S)
