"""Listening sockets: bound once, then served by a context that can be exchanged, handed on, or let go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from himalia_proxy.errors import StartError

BACKLOG: Final = 2048


@dataclass(frozen=True)
class Place:
    """Where to listen: at a unix `path`, or on a port. `option` is the port's, for messages."""

    path: str | None
    ip: str
    port: int
    option: str


class Listener:
    """A bound socket, and who answers on it. `context` makes a TLS context, anew whenever its files change."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        make: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._loop = loop
        self.sock = sock
        self._make = make
        self._context = context
        self._server: asyncio.Server | None = None

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._context is not None

    async def open(self) -> None:
        """Accept connections; if already open, go on with a new context. StartError leaves it as it was."""
        context = self._context() if self._context else None
        # The kernel's queue belongs to the socket: with a second descriptor nobody is refused in between.
        server = await self._loop.create_server(
            self._make, sock=self.sock.dup(), ssl=context, backlog=BACKLOG
        )
        self.stop_accepting()
        self._server = server

    def stop_accepting(self) -> None:
        """Leave further connections in the kernel's queue."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Let the socket go; without another process that has it, connections are refused from now on."""
        self.stop_accepting()
        self.sock.close()


def bind_all(places: Mapping[str, Place]) -> dict[str, socket.socket]:
    """A listening socket for each place, or StartError and none at all."""
    made: dict[str, socket.socket] = {}
    try:
        for name, place in places.items():
            made[name] = _bind_unix(place.path) if place.path is not None else _bind(place)
    except StartError:
        for sock in made.values():
            sock.close()
        raise
    return made


async def bind_soon(places: Mapping[str, Place], *, within_s: float) -> dict[str, socket.socket]:
    """The same, tried again for a while: the workers of a killed proxy take a moment to notice that and end."""
    until = time.monotonic() + within_s
    while True:
        try:
            return bind_all(places)
        except StartError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(0.05)


def _bind(place: Place) -> socket.socket:
    ip, port = place.ip, place.port
    family, address = _address(ip, port, place.option)
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
            f"Stop what uses it, or choose another with {place.option}."
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


def listens_at(name: object, place: Place) -> bool:
    """Whether a socket of that `getsockname()` is where `place` says. StartError for an address that is none."""
    if isinstance(name, tuple) and place.path is None:
        return tuple(name[:2]) == _address(place.ip, place.port, place.option)[1]
    return name == place.path


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


def find_half_open(sock: socket.socket | None, within_s: float) -> None:
    """Have the kernel drop a TCP connection whose peer has vanished, idle or not, within about `within_s` seconds.

    Three probes after half the time (tcp(7)); data that nobody acknowledges may wait the whole time. A listener's
    connections inherit it.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6) or not within_s:
        return
    idle, interval = max(int(within_s / 2), 1), max(int(within_s / 6), 1)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            (socket.TCP_KEEPIDLE, idle),
            (socket.TCP_KEEPINTVL, interval),
            (socket.TCP_KEEPCNT, 3),
            (socket.TCP_USER_TIMEOUT, int(within_s * 1000)),
        ):
            sock.setsockopt(socket.IPPROTO_TCP, name, value)


def name_of(sock: socket.socket) -> str:
    """Its address, for the log."""
    name = sock.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def remove(path: str) -> None:
    """Unlink what may be gone already."""
    with contextlib.suppress(OSError):
        os.unlink(path)
