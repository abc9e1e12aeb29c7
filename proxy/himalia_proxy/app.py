"""Joins the parts of one proxy process and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from himalia_proxy.access import AccessLog
from himalia_proxy.api import ApiConnection, RoutesApi
from himalia_proxy.core import Core, Limits, log
from himalia_proxy.counts import exposition
from himalia_proxy.downstream import Downstream
from himalia_proxy.errors import StartError
from himalia_proxy.headers import ForwardRules
from himalia_proxy.listeners import Listener, Place, bind_all, find_half_open, name_of, remove
from himalia_proxy.pages import ErrorPages
from himalia_proxy.plain import MetricsConnection, RedirectConnection
from himalia_proxy.settings import ProxySettings
from himalia_proxy.snapshot import Snapshot
from himalia_proxy.table import RouteTable
from himalia_proxy.tls import TlsFiles, Watched, client_context, server_context
from himalia_proxy.upstream import Pool

LOOK_AT_FILES_EVERY_S: Final = 2.0


@dataclass
class Told:
    """What signals have said: TERM or INT to stop, a second one to hurry, HUP to read files again."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the signals come here."""

        def stop() -> None:
            if self.stop.is_set():
                self.hurry.set()
            self.stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)


async def serve(settings: ProxySettings) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends the wait for open requests. StartError at start."""
    loop, told = asyncio.get_running_loop(), Told()
    told.listen(loop)
    core = make_core(loop, settings)
    snapshot = Snapshot(settings.routes_file, core.table) if settings.routes_file else None
    if snapshot is not None:
        log.info("snapshot.loaded routes=%d", snapshot.load())
    if settings.default_target is not None:
        core.table.put("/", {"target": settings.default_target}, time.time())
    api = RoutesApi(core, settings.auth_token, lambda _: snapshot.changed() if snapshot else None)
    async with contextlib.AsyncExitStack() as stack:
        listeners = await _listen(stack, settings, core, api)
        if settings.pid_file:
            _write_pid(settings.pid_file)
            stack.callback(remove, settings.pid_file)
        tasks = [loop.create_task(keep_files_fresh(settings, listeners, core, told.reload))]
        if snapshot is not None:
            tasks.append(loop.create_task(snapshot.keep()))
        # What exists now exists for good: the collector need not walk it again.
        gc.collect()
        gc.freeze()
        await told.stop.wait()
        log.info("proxy.stopping connections=%d tunnels=%d", len(core.clients.open), len(core.tunnels))
        await stack.aclose()
        await core.stop(drain_s=settings.drain_timeout_s, tunnels_s=settings.tunnel_grace_s, hurry=told.hurry)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if snapshot is not None:
            snapshot.save()


def make_core(loop: asyncio.AbstractEventLoop, settings: ProxySettings) -> Core:
    """The table and the ways to clients and targets, without a listener. StartError for unusable files."""
    table = RouteTable(
        by_host=settings.host_routing,
        prepend_path=settings.prepend_path,
        include_prefix=settings.include_prefix,
    )
    pool = Pool(
        loop, lambda: client_context(settings.client_tls, settings.tuning, insecure=settings.insecure)
    )
    if settings.client_tls is not None:
        pool.renew_tls()
    rules = ForwardRules(
        x_forward=settings.x_forward,
        change_origin=settings.change_origin,
        auto_rewrite=settings.auto_rewrite,
        protocol_rewrite=settings.protocol_rewrite.encode() if settings.protocol_rewrite else None,
        custom=settings.custom_headers,
    )
    limits = Limits(
        keep_alive_s=settings.keep_alive_timeout_s,
        client_silent_s=settings.timeout_s,
        target_silent_s=settings.proxy_timeout_s,
        half_open_s=settings.half_open_timeout_s,
        most_head=settings.max_header_size,
        most_body=settings.max_body_size,
        per_address=settings.max_connections_per_address,
    )
    access = AccessLog(settings.access_log) if settings.access_log else None
    cookie = settings.login_cookie.encode("latin-1", "replace")
    return Core(loop, table, pool, rules, limits, access=access, login_cookie=cookie)


def places(settings: ProxySettings) -> dict[str, Place]:
    """Where to listen, by the listener's name."""
    found = {
        "public": Place(settings.socket, settings.ip, settings.port, "--port"),
        "api": Place(settings.api_socket, settings.api_ip, settings.api_port, "--api-port"),
    }
    if settings.metrics_port is not None or settings.metrics_socket is not None:
        port = settings.metrics_port or 0
        found["metrics"] = Place(settings.metrics_socket, settings.metrics_ip, port, "--metrics-port")
    if settings.redirect_port is not None:
        found["redirect"] = Place(None, settings.ip, settings.redirect_port, "--redirect-port")
    return found


async def _listen(
    stack: contextlib.AsyncExitStack, settings: ProxySettings, core: Core, api: RoutesApi
) -> list[Listener]:
    """Open all listeners, or none."""
    for files in (settings.tls, settings.api_tls):
        if files is not None:
            server_context(files, settings.tuning)  # whoever connects finds a proxy that can answer
    sockets = bind_all(places(settings))
    for place in places(settings).values():
        if place.path is not None:
            stack.callback(remove, place.path)
    listeners = {name: _listener(name, sock, settings, core, api) for name, sock in sockets.items()}
    for listener in listeners.values():
        find_half_open(listener.sock, settings.half_open_timeout_s)
        stack.callback(listener.close)
    for listener in listeners.values():
        await listener.open()
    said = " ".join(f"{name}={name_of(sock)}" for name, sock in sockets.items())
    log.info("proxy.listening %s tls=%s", said, "yes" if settings.tls else "no")
    return list(listeners.values())


def _listener(
    name: str, sock: socket.socket, settings: ProxySettings, core: Core, api: RoutesApi
) -> Listener:
    make: Callable[[], asyncio.Protocol]
    files: TlsFiles | None = None
    if name == "public":
        files, tls = settings.tls, settings.tls is not None
        pages = ErrorPages(core.pool, target=settings.error_target, folder=settings.error_path)
        make = lambda: Downstream(core, pages, tls=tls)
    elif name == "api":
        files = settings.api_tls
        make = lambda: ApiConnection(core, api)
    elif name == "metrics":
        make = lambda: MetricsConnection(core, lambda: exposition(core.counts, core.gauges()))
    else:
        make = lambda: RedirectConnection(core, settings.redirect_to)
    if files is None:
        return Listener(core.loop, sock, make)
    return Listener(core.loop, sock, make, lambda: server_context(files, settings.tuning))


async def keep_files_fresh(
    settings: ProxySettings, listeners: Iterable[Listener], core: Core, asked: asyncio.Event
) -> None:
    """Read certificates again when their files change or `asked` is set, until cancelled; then also reopen the log.

    Files that cannot be used, such as one of a pair that is still being replaced, leave the old ones in force.
    """
    files = [one for one in (settings.tls, settings.api_tls, settings.client_tls) if one is not None]
    watched = Watched(path for one in files for path in one.paths)
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), LOOK_AT_FILES_EVERY_S if files else None)
        if not watched.changed() and not asked.is_set():
            continue
        try:
            if asked.is_set() and core.access is not None:
                core.access.reopen()
            for listener in listeners:
                if listener.secure:
                    await listener.open()
            core.pool.renew_tls()
            log.info("files.reloaded")
        except StartError as error:
            log.error("files.not_reloaded reason=%r", str(error))
        asked.clear()


def _write_pid(path: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        raise StartError(f"--pid-file {path!r} cannot be written: {error.strerror}.") from None


def raise_file_limit() -> None:
    """Two descriptors per open page add up: take all that the process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
