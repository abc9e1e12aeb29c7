"""Joins the parts of one proxy process and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import ssl as tls_module
import time
from collections.abc import Callable
from typing import Final

from himalia_proxy.api import ApiConnection, RoutesApi
from himalia_proxy.core import Core, log
from himalia_proxy.downstream import Downstream
from himalia_proxy.errors import StartError
from himalia_proxy.headers import ForwardRules
from himalia_proxy.pages import ErrorPages
from himalia_proxy.settings import ProxySettings
from himalia_proxy.snapshot import Snapshot
from himalia_proxy.table import RouteTable
from himalia_proxy.upstream import Pool

BACKLOG: Final = 2048
DRAIN_S: Final = 5.0


async def serve(settings: ProxySettings) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends the wait for open requests. StartError at start."""
    loop = asyncio.get_running_loop()
    stopping, hurry = _signals(loop)
    table = RouteTable(
        by_host=settings.host_routing,
        prepend_path=settings.prepend_path,
        include_prefix=settings.include_prefix,
    )
    pool = Pool(loop, insecure=settings.insecure)
    rules = ForwardRules(settings.x_forward, settings.change_origin, settings.custom_headers)
    core = Core(
        loop,
        table,
        pool,
        rules,
        keep_alive_s=settings.keep_alive_timeout_s,
        client_timeout_s=settings.timeout_s,
        target_timeout_s=settings.proxy_timeout_s,
    )
    snapshot = Snapshot(settings.routes_file, table) if settings.routes_file else None
    if snapshot is not None:
        log.info("snapshot.loaded routes=%d", snapshot.load())
    if settings.default_target is not None:
        table.put("/", {"target": settings.default_target}, time.time())
    pages = ErrorPages(pool, target=settings.error_target, folder=settings.error_path)
    api = RoutesApi(core, settings.auth_token, snapshot.changed if snapshot else lambda: None)
    async with contextlib.AsyncExitStack() as stack:
        await _listen(stack, settings, core, pages, api)
        if settings.pid_file:
            _write_pid(settings.pid_file)
            stack.callback(_remove, settings.pid_file)
        keeper = loop.create_task(snapshot.keep()) if snapshot else None
        # What exists now exists for good: the collector need not walk it again.
        gc.collect()
        gc.freeze()
        await stopping.wait()
        log.info("proxy.stopping connections=%d tunnels=%d", len(core.clients.open), len(core.tunnels))
        await stack.aclose()
        await core.stop(drain_s=DRAIN_S, hurry=hurry)
        if keeper is not None and snapshot is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
            snapshot.save()


def _signals(loop: asyncio.AbstractEventLoop) -> tuple[asyncio.Event, asyncio.Event]:
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def told() -> None:
        if stopping.is_set():
            hurry.set()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    return stopping, hurry


async def _listen(
    stack: contextlib.AsyncExitStack, settings: ProxySettings, core: Core, pages: ErrorPages, api: RoutesApi
) -> None:
    """Open both listeners, or neither."""
    context = _tls_context(settings)
    public = _bind(settings.socket, settings.ip, settings.port, "--port")
    if settings.socket is not None:
        stack.callback(_remove, settings.socket)
    try:
        private = _bind(settings.api_socket, settings.api_ip, settings.api_port, "--api-port")
    except StartError:
        public.close()
        raise
    if settings.api_socket is not None:
        stack.callback(_remove, settings.api_socket)
    tls = context is not None

    async def start(
        sock: socket.socket, make: Callable[[], asyncio.Protocol], ssl: tls_module.SSLContext | None
    ) -> None:
        server = await core.loop.create_server(make, sock=sock, ssl=ssl, backlog=BACKLOG)
        stack.callback(server.close)

    await start(public, lambda: Downstream(core, pages, tls=tls), context)
    await start(private, lambda: ApiConnection(core, api), None)
    log.info("proxy.listening public=%s api=%s tls=%s", _name(public), _name(private), "yes" if tls else "no")


def _bind(path: str | None, ip: str, port: int, option: str) -> socket.socket:
    if path is not None:
        return _bind_unix(path)
    family, address = _address(ip, port, option)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        # Accepted connections inherit it, which spares a call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(
            f"cannot listen on {ip or 'all interfaces'} port {port}: {error.strerror}. "
            f"Stop what uses it, or choose another with {option}."
        ) from None
    sock.setblocking(False)
    return sock


def _address(ip: str, port: int, option: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """One address to bind. All interfaces means both families, where the machine has IPv6 at all."""
    if not ip:
        return (socket.AF_INET6, ("::", port)) if _has_ipv6() else (socket.AF_INET, ("0.0.0.0", port))
    try:
        found = socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(
            f"cannot listen on {ip!r} (see {option.replace('port', 'ip')}): {error.strerror}."
        ) from None
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    return found[0][0], (str(found[0][4][0]), port)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path):
            _clear_dead(path)
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on the unix socket {path!r}: {error.strerror or error}.") from None
    sock.setblocking(False)
    return sock


def _clear_dead(path: str) -> None:
    """Remove a socket nobody listens on; a live one stays, and the bind will say so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def _tls_context(settings: ProxySettings) -> tls_module.SSLContext | None:
    if settings.ssl_key is None or settings.ssl_cert is None:
        return None
    context = tls_module.SSLContext(tls_module.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls_module.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.ssl_cert, settings.ssl_key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise StartError(f"--ssl-key or --ssl-cert cannot be used: {error}.") from None
    return context


def _no_passphrase() -> str:
    raise StartError("--ssl-key is protected by a passphrase, which is not supported by this proxy yet.")


def _write_pid(path: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        raise StartError(f"--pid-file {path!r} cannot be written: {error.strerror}.") from None


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def raise_file_limit() -> None:
    """Two descriptors per open page add up: take all that the process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
