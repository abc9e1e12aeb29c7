"""One hub process from its start to its end: `himalia up` and `himalia hub` both run this."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
import structlog
from aiohttp import web

from himalia_hub import clock, lean, secrets
from himalia_hub.app import make_app
from himalia_hub.auth import setup
from himalia_hub.auth.door import DOOR, Door
from himalia_hub.db import apart, migrate
from himalia_hub.db.engine import Database
from himalia_hub.ending import ENDING, Ending
from himalia_hub.ephemeral import ground
from himalia_hub.errors import ConfigError, FolderLost
from himalia_hub.folder import Running, alone_on_sqlite, only_one, prepare_data_dir, shown, until_lost
from himalia_hub.metrics.figures import Figures
from himalia_hub.metrics.measured import MeasuredProxy
from himalia_hub.pages import render
from himalia_hub.reloading import RELOADER, on_hangup, since_last_time
from himalia_hub.replicas import presence
from himalia_hub.routes.feed import Feed
from himalia_hub.routes.launch import ProxyProcess, auth_token
from himalia_hub.routes.sync import hub_route
from himalia_hub.servers import store
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.world import World
from himalia_hub.services.sync import write_configured
from himalia_hub.settings import HubSettings, address_of, local_url
from himalia_hub.spawning import make_spawner
from himalia_proxy.base import ProxyError
from himalia_proxy.client import HttpProxy
from himalia_spawner.base import HeardBySocket, Spawner

log = structlog.get_logger()

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a supervisor's stop, and a terminal that was closed: all end cleanly. At the last, a service reads its
configuration again instead."""


BACKLOG = 2048
"""Connections that wait until the event loop takes them. Of a crowd, those beyond aiohttp's 128 were not heard, and
tried again after a second, as TCP does.
"""
DRAIN_S = 20.0
"""The longest that one of several hubs waits at its end for answers that are under way."""


class Reporter(Protocol):
    """Tells a person how far the start is."""

    def done(self, text: str) -> None:
        """A step is finished."""

    def note(self, text: str) -> None:
        """Something to know or do."""


@dataclass(slots=True)
class Plan:
    """What differs between `up` and `hub`, and between ways to end."""

    migrate: bool
    keep_servers: bool
    keep_proxy: bool
    reporter: Reporter
    load: Callable[[], HubSettings] | None = None
    reload_on_hangup: bool = False


async def serve(settings: HubSettings, plan: Plan) -> None:
    """Run until SIGINT, SIGTERM or a shutdown over the API. ConfigError and SpawnError say why it cannot run."""
    report, began = plan.reporter, clock.now().timestamp()
    prepare_data_dir(settings.data_dir)
    with only_one(settings.data_dir) as tell_where, alone_on_sqlite(settings.db_url):
        await _prepare_database(settings, plan)
        async with (
            _warming(settings) as warm,
            _listening(settings) as (sockets, hub_url),
            _world(settings, hub_url) as world,
        ):
            # Before the proxy: what is refused here leaves nothing running.
            ground.prepare(world, report.note)
            proxy = ProxyProcess(settings, hub_url) if settings.proxy.start else None
            if proxy is not None:
                how = await proxy.start()
                where = f"{settings.proxy.ip}:{settings.proxy.port}"
                report.done(f"Proxy {'found running' if how == 'adopted' else how} on {where}")
            await presence.check(world)
            await write_configured(world.db, settings, world.secrets)
            app = make_app(world, routes_wake_up=proxy.restarted if proxy else None)
            await since_last_time(app)
            runner = web.AppRunner(
                app,
                access_log=None,
                handle_signals=False,
                shutdown_timeout=2.0 if world.db.is_sqlite else DRAIN_S,
            )
            await runner.setup()
            await warm
            lean.settle()
            for sock in [*sockets, *_spawners_sockets(world.spawner)]:
                await web.SockSite(runner, sock, backlog=BACKLOG).start()
            tell_where(_found_at(settings, sockets[0]))
            world.figures.started.observe(clock.now().timestamp() - began)
            report.done(f"Hub listening on {hub_url}")
            await _open_the_door(world, report)
            report.done(f"Spawner {settings.spawner.kind!r} ready")
            _warn_of_root(settings, report)
            await _tell_how_to_sign_in(world, app[DOOR], report)
            watcher = asyncio.create_task(proxy.watch()) if proxy else None
            guard = asyncio.create_task(_guard(settings, app[ENDING]), name="folder.guard")
            try:
                app[RELOADER].load = plan.load
                await _until_signal(app, reload_on_hangup=plan.reload_on_hangup)
                _as_asked(plan, app[ENDING])
                if (lost := app[ENDING].lost) is not None:
                    with contextlib.suppress(Exception):  # as far as it can without its files
                        async with asyncio.timeout(DRAIN_S):
                            await _end(world, runner, proxy, watcher, plan)
                    raise FolderLost(lost)
                await _end(world, runner, proxy, watcher, plan)
            finally:
                guard.cancel()
                if watcher is not None:
                    watcher.cancel()
                await runner.cleanup()
                if proxy is not None:
                    proxy.close()


async def _guard(settings: HubSettings, ending: Ending) -> None:
    """End the hub when its folder is gone. It would serve on from files that are open and lose all that it is told, at
    the latest at its end: what nobody expects who sees it run. PostgreSQL ends for the same reason.
    """
    ending.lost = await until_lost(settings.data_dir, settings.db_url)
    log.critical("folder.lost", path=str(ending.lost))
    ending.wished.set()


async def _prepare_database(settings: HubSettings, plan: Plan) -> None:
    if plan.migrate:
        upgrade = await apart.upgrade(settings.db_url)
        plan.reporter.done(f"Database {'brought' if upgrade.changed else 'is'} up to date")
    else:
        await migrate.check(settings.db_url)
        plan.reporter.done("Database is up to date")


@contextlib.asynccontextmanager
async def _warming(settings: HubSettings) -> AsyncIterator[asyncio.Task[None]]:
    """Pages are made ready in a thread, while the proxy starts."""
    task = asyncio.create_task(asyncio.to_thread(render.warm_up, settings), name="pages.warm")
    try:
        yield task
    finally:
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _listening(settings: HubSettings) -> AsyncIterator[tuple[list[socket.socket], str]]:
    """The listening sockets, the hub's own first, and how proxy and servers reach it."""
    hub = settings.hub
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_listener(hub.ip, hub.port, "hub.port"))]
        sockets += [
            stack.enter_context(_listener(*address_of(text), "hub.also_listen")) for text in hub.also_listen
        ]
        yield sockets, hub.connect_url.rstrip("/") or local_url(hub.ip, sockets[0].getsockname()[1])


def _found_at(settings: HubSettings, sock: socket.socket) -> Running:
    prefix, proxy = settings.hub_prefix, settings.proxy
    return Running(
        hub=local_url(settings.hub.ip, sock.getsockname()[1]) + prefix,
        through_proxy=local_url(proxy.ip, proxy.port) + prefix,
        proxy_api=settings.proxy_api_url,
        database=shown(settings.db_url),
    )


def _listener(ip: str, port: int, setting: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((ip, port))
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"the hub cannot listen on {ip}:{port}: {error.strerror}; change {setting}"
        ) from None
    sock.listen(1024)
    return sock


def _spawners_sockets(spawner: Spawner) -> list[socket.socket]:
    """Where a spawner's servers reach the hub without an address of it. Only this hub binds there: it holds the
    lock of its data folder, and what lies at the path is left of a hub that was killed.
    """
    if not isinstance(spawner, HeardBySocket) or spawner.hub_socket is None:
        return []
    path = Path(spawner.hub_socket)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        path.chmod(0o666)  # accounts inside a container are nobody here; only containers see the folder
    except OSError as error:
        sock.close()
        raise ConfigError(f"the hub cannot listen on {str(path)!r}: {error.strerror}") from None
    sock.listen(1024)
    return [sock]


@contextlib.asynccontextmanager
async def _world(settings: HubSettings, hub_url: str) -> AsyncIterator[World]:
    secret = secrets.load_or_create(settings.hub.secret_file or settings.data_dir / "secret")
    database = Database(settings.db_url)
    spawner: Spawner = make_spawner(settings, secret)
    proxy, figures = HttpProxy(settings.proxy_api_url, auth_token(settings)), Figures()
    try:
        yield World(
            settings,
            database,
            spawner,
            Feed(MeasuredProxy(proxy, figures)),
            secret,
            Doorbell(),
            hub_url,
            figures=figures,
        )
    finally:
        await proxy.close()
        await spawner.close()
        await database.close()


def _warn_of_root(settings: HubSettings, report: Reporter) -> None:
    if (
        os.geteuid() == 0
        and settings.spawner.kind == "process"
        and not settings.spawner.process.get("system_users")
    ):
        report.note("Everyone's server runs as root, like this hub: good for a look, not for a team.")
        report.note("  spawner.process.system_users = true runs each as the system user of that name")


async def _open_the_door(world: World, report: Reporter) -> None:
    """Route to the hub before anyone is told the address; a proxy that others run may come later."""
    try:
        await world.proxy.put(hub_route(world))
    except ProxyError as error:
        report.note(f"The proxy does not answer yet ({error}); it is asked again every second")


async def _tell_how_to_sign_in(world: World, door: Door, report: Reporter) -> None:
    settings = world.settings
    base = settings.site
    async with world.db.begin() as db:
        needed = door.has_local and await setup.needed(db)
        link = await setup.create_setup_link(db, now=clock.now()) if needed else ""
    report.note(f"Open {base}{settings.base_url}")
    if link:
        report.note("Make the first administrator with this link; it works once:")
        report.note(f"  {base}{settings.hub_prefix}setup?token={link}")


def _as_asked(plan: Plan, ending: Ending) -> None:
    """Who ended the hub over the API may have said what goes with it."""
    if ending.servers is not None:
        plan.keep_servers = not ending.servers
    if ending.proxy is not None:
        plan.keep_proxy = not ending.proxy


async def _until_signal(app: web.Application, *, reload_on_hangup: bool) -> None:
    running, stopping = asyncio.get_running_loop(), app[ENDING].wished
    for signum in STOP_SIGNALS:
        running.add_signal_handler(signum, stopping.set)
    if reload_on_hangup:
        reloads: set[asyncio.Task[None]] = set()
        running.add_signal_handler(
            signal.SIGHUP, lambda: reloads.add(running.create_task(on_hangup(app), name="config.reload"))
        )
    await stopping.wait()
    for signum in STOP_SIGNALS:  # a second Ctrl-C ends at once
        running.remove_signal_handler(signum)


async def _end(
    world: World,
    runner: web.AppRunner,
    proxy: ProxyProcess | None,
    watcher: asyncio.Task[None] | None,
    plan: Plan,
) -> None:
    if not plan.keep_servers:
        stopped = await stop_everything(world, plan.reporter)
        if stopped:
            plan.reporter.done(f"{stopped} server{'s' if stopped > 1 else ''} stopped")
    if watcher is not None:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    await presence.leave(world)
    await runner.cleanup()
    plan.reporter.done("Hub stopped")
    if proxy is not None and not plan.keep_proxy:
        await proxy.stop()
        plan.reporter.done("Proxy stopped")


async def stop_everything(world: World, report: Reporter) -> int:
    """Wish every server stopped and wait until all are; how many there were."""
    active = sa.or_(
        Server.desired == Desired.RUNNING, Server.phase.in_([Phase.STARTING, Phase.READY, Phase.STOPPING])
    )
    async with world.db.begin() as db:
        servers = list(await db.scalars(sa.select(Server).where(active)))
        servers += await store.with_kept_kernels(db, now=clock.now())
        for server in servers:
            await store.want_stopped(db, server, now=clock.now())
    if not servers:
        return 0
    report.note(f"Stopping {len(servers)} server{'s' if len(servers) > 1 else ''} …")
    for server in servers:
        world.doorbell.ring(server.id)
    for server in servers:
        with world.doorbell.watch(server.id) as watch:
            while True:
                async with world.db.read() as db:
                    row = await db.get(Server, server.id)
                if row is None or (row.due_at is None and row.desired is Desired.STOPPED):
                    break
                await watch.wait(0.5)
    return len(servers)
