"""The parts of a proxy process, made as its settings say; app.py and worker.py join them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
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
from himalia_proxy.listeners import Listener, Place, find_half_open
from himalia_proxy.members import Members
from himalia_proxy.pages import ErrorPages
from himalia_proxy.plain import MetricsConnection, RedirectConnection
from himalia_proxy.settings import ProxySettings
from himalia_proxy.table import RouteTable
from himalia_proxy.tally import SharedTally, Tally, shared_memory
from himalia_proxy.tls import TlsFiles, Watched, client_context, server_context
from himalia_proxy.upstream import Pool

LOOK_AT_FILES_EVERY_S: Final = 2.0
FOR_CLIENTS: Final = ("public", "redirect")


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


def make_core(
    loop: asyncio.AbstractEventLoop, settings: ProxySettings, shared: SharedTally | None = None
) -> Core:
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
        trusted=settings.trust_forwarded,
        forwarded=settings.forwarded,
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
    tally = None
    if limits.per_address:
        descriptor, own, parts = shared or (shared_memory(1), 0, 1)
        tally = Tally(descriptor, own, parts)
        os.close(descriptor)  # the memory stays
    return Core(loop, table, pool, rules, limits, tally=tally, access=access, login_cookie=cookie)


def check_certificates(settings: ProxySettings) -> None:
    """StartError for those that cannot be used, before anybody can connect."""
    for files in (settings.tls, settings.api_tls):
        if files is not None:
            server_context(files, settings.tuning)


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


def client_listener(name: str, sock: socket.socket, settings: ProxySettings, core: Core) -> Listener:
    """The public listener, or the redirect to it. StartError if its certificate cannot be used."""
    find_half_open(sock, settings.half_open_timeout_s)
    if name == "redirect":
        return Listener(core.loop, sock, lambda: RedirectConnection(core, settings.redirect_to))
    pages = ErrorPages(core.pool, target=settings.error_target, folder=settings.error_path)
    tls = settings.tls is not None
    return _listener(core, sock, lambda: Downstream(core, pages, tls=tls), settings.tls, settings)


def own_listener(
    name: str, sock: socket.socket, settings: ProxySettings, core: Core, members: Members, api: RoutesApi
) -> Listener:
    """The API's listener, or that of metrics. StartError if its certificate cannot be used."""
    find_half_open(sock, settings.half_open_timeout_s)
    if name == "api":
        return _listener(core, sock, lambda: ApiConnection(core, api), settings.api_tls, settings)
    text = lambda: exposition(members.counts(), members.gauges())
    return Listener(core.loop, sock, lambda: MetricsConnection(core, text))


def _listener(
    core: Core,
    sock: socket.socket,
    make: Callable[[], asyncio.Protocol],
    files: TlsFiles | None,
    settings: ProxySettings,
) -> Listener:
    if files is None:
        return Listener(core.loop, sock, make)
    return Listener(core.loop, sock, make, lambda: server_context(files, settings.tuning))


async def keep_files_fresh(
    settings: ProxySettings,
    listeners: Iterable[Listener],
    core: Core,
    asked: asyncio.Event,
    passed_on: Callable[[], None] = lambda: None,
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
            if asked.is_set():
                passed_on()
                if core.access is not None:
                    core.access.reopen()
            for listener in listeners:
                if listener.secure:
                    await listener.open()
            core.pool.renew_tls()
            log.info("files.reloaded")
        except StartError as error:
            log.error("files.not_reloaded reason=%r", str(error))
        asked.clear()


def raise_file_limit() -> None:
    """Two descriptors per open page add up: take all that the process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
