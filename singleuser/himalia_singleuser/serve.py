"""From settings to a listening server, and to its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
from pathlib import Path
from urllib.parse import quote

import structlog
from aiohttp import WSCloseCode, web

from himalia_singleuser.app import make_app
from himalia_singleuser.environ import SettingsError
from himalia_singleuser.keys import SHUTDOWN, SOCKETS
from himalia_singleuser.lingering import LingeringRunner
from himalia_singleuser.log_stream import LogStream
from himalia_singleuser.settings import Settings

log = structlog.get_logger(__name__)

BACKLOG = 512
KEEPALIVE_S = 75.0
HANDLERS_END_S = 1.0
PORTS_TRIED = 50


def take_lock(settings: Settings) -> None:
    """What proves that this process lives: a descriptor of the spawner's, kept open and given to no child, and a lock
    in a home that other machines see too.
    """
    if settings.lock_fd is not None:
        try:
            os.set_inheritable(settings.lock_fd, False)
        except OSError:
            raise SettingsError(f"HIMALIA_LOCK_FD={settings.lock_fd} is not an open descriptor") from None
    if settings.home_lock is not None:
        from himalia_singleuser import home_lock

        home_lock.take(settings.home_lock, settings.environ.get("HIMALIA_NODE") or socket.gethostname())


def listen(settings: Settings) -> socket.socket:
    """The socket to serve on: inherited, unix, or TCP. SettingsError says what stands in the way."""
    if settings.listen_fd is not None:
        return _inherited(settings.listen_fd)
    if settings.socket:
        return _unix(Path(settings.socket), settings.socket_mode)
    family = socket.AF_INET6 if ":" in settings.ip else socket.AF_INET
    # Who named no port is content with any near the usual one; who named one must get that.
    ports = [settings.port] if settings.port_was_given else range(settings.port, settings.port + PORTS_TRIED)
    problem = ""
    for port in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.ip, port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            problem = f"cannot listen on {settings.ip}:{port}: {error.strerror}; give another --ip or --port"
            if error.errno != errno.EADDRINUSE:
                break
        else:
            return listener
    raise SettingsError(problem)


def _inherited(descriptor: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
    except OSError:
        raise SettingsError(f"HIMALIA_LISTEN_FD={descriptor} is not an open socket") from None
    listener.set_inheritable(False)
    return listener


def _unix(path: Path, mode: int) -> socket.socket:
    """A stale socket of a dead server is removed; a live one, or anything else, is left alone."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SettingsError(f"{str(path)!r} exists and is not a socket: give another --socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise SettingsError(f"another server listens on {str(path)!r}")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o777 & ~mode)  # so that it never is open any wider, not even for a moment
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {str(path)!r}: {error.strerror}") from None
    finally:
        os.umask(old)
    return listener


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGINT, SIGTERM, SIGHUP or `api/shutdown`; then kernels, terminals and sockets end quickly."""
    app = make_app(settings)
    ended = asyncio.Event()
    app[SHUTDOWN].append(ended.set)
    app.on_shutdown.append(_close_sockets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup asked for going on
        loop.add_signal_handler(signal.SIGHUP, ended.set)
    # Handlers are given a moment to end by themselves, kernels their own time in the lifetimes after it.
    runner = LingeringRunner(
        app, access_log=None, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=HANDLERS_END_S
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        _announce(settings, listener)
        await ended.wait()
        log.info("server.stopping")
    finally:
        await runner.cleanup()
        if settings.socket and settings.listen_fd is None:
            Path(settings.socket).unlink(missing_ok=True)
    log.info("server.stopped")


async def _close_sockets(app: web.Application) -> None:
    sockets = app[SOCKETS].copy()
    closing = [ws.close(code=WSCloseCode.GOING_AWAY, message=b"Server shutdown") for ws in sockets]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), 1)


def _announce(settings: Settings, listener: socket.socket) -> None:
    """The address for a person. Only what was made up for this start is shown: a given token is known."""
    log.info("server.listening", root=str(settings.root_dir), pid=os.getpid())
    if settings.hub is not None:
        return
    base = quote(settings.base_url, safe="/@~")
    secret = "?token=..." if settings.token_was_given else f"?token={settings.token}"
    if listener.family == socket.AF_UNIX:
        where = f"unix socket {listener.getsockname()}, path {base}{secret}"
    else:
        ip, port = listener.getsockname()[:2]
        host = "127.0.0.1" if ip in {"0.0.0.0", "::"} else f"[{ip}]" if ":" in ip else ip
        where = f"http://{host}:{port}{base}{secret}"
    what = "Jupyter Notebook" if settings.default_url.startswith("/tree") else "JupyterLab"
    LogStream(1).write(f"{what} is ready: {where}\n")
