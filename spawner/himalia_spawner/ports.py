"""Loopback ports: find a free one, and see whose process listens on it."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

_LISTEN = "0A"
_LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
_ANY = {"00000000", "00000000000000000000000000000000"}


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket that a connection to 127.0.0.1 can reach."""

    port: int
    uid: int
    loopback: bool
    """Bound to 127.0.0.1 itself, which wins over a socket bound to every address."""


def free_port() -> int:
    """A loopback port nobody listens on just now; only `listener_uid` can tell who takes it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listener_uid(port: int) -> int | None:
    """The user id of the process that a connection to 127.0.0.1:`port` reaches, None if nobody listens."""
    found = [each for text in _tables() for each in parse_listeners(text) if each.port == port]
    found.sort(key=lambda each: not each.loopback)
    return found[0].uid if found else None


def parse_listeners(table: str) -> list[Listener]:
    """The listeners in the text of /proc/net/tcp or tcp6: pure."""
    listeners = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8 or columns[3] != _LISTEN:
            continue
        address, _, port = columns[1].partition(":")
        if address in _LOOPBACK or address in _ANY:
            listeners.append(Listener(int(port, 16), int(columns[7]), address in _LOOPBACK))
    return listeners


def _tables() -> list[str]:
    texts = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path, encoding="ascii") as file:
                texts.append(file.read())
        except OSError as error:
            if error.errno != errno.ENOENT:  # no IPv6 in this kernel
                raise
    return texts
