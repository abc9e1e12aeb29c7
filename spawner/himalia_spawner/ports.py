"""Loopback ports: find a free one, and see whose process listens on it."""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass, field

_LISTEN = "0A"
_LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
_ANY = {"00000000", "00000000000000000000000000000000"}
_NETLINK_SOCK_DIAG = 4
_ERROR = 2
_HEADER = struct.Struct("=IHHII")
"""A netlink message's: length with the header, type, flags, sequence number, port id (netlink(7))."""
_FOUND = struct.Struct("=4x2s2x16s16x4x8x12xII")
"""Of `struct inet_diag_msg`: port, address, the owner's user id and the inode (sock_diag(7))."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket that a connection to 127.0.0.1 can reach."""

    port: int
    uid: int
    loopback: bool
    """Bound to 127.0.0.1 itself, which wins over a socket bound to every address."""
    inode: int = field(default=0, compare=False)
    """Of the socket, by which its holder is known (`procfs.holds_socket`)."""


def free_port() -> int:
    """A loopback port nobody listens on just now; only `listener` can tell who takes it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen there: nobody does, and no connection of any client's goes out from it."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listener(port: int) -> Listener | None:
    """What a connection to 127.0.0.1:`port` reaches, None if nobody listens."""
    try:
        return ask_kernel(port)
    except OSError:  # no sock_diag in this kernel: it is optional, the tables never are
        found = read_tables(port)
    found.sort(key=lambda each: not each.loopback)
    return found[0] if found else None


def ask_kernel(port: int) -> Listener | None:
    """The same; OSError where the kernel cannot be asked.

    It looks up where it would lead such a connection, whoever else listens. The tables in /proc are made from every
    place for a connection that the machine has: 9 ms on an idle one, at each look of the hub at each server.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.sendall(_question(port))
        return parse_answer(kernel.recv(1 << 12, socket.MSG_DONTWAIT))  # it is there when `sendall` returns


def _question(port: int) -> bytes:
    by_family, request, any_state, no_cookie = 20, 1, 0xFFFFFFFF, b"\xff" * 8
    here, anywhere = socket.inet_aton("127.0.0.1"), b""
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, any_state)
    body += struct.pack("!HH16s16sI8s", port, 0, here, anywhere, 0, no_cookie)
    return _HEADER.pack(_HEADER.size + len(body), by_family, request, 1, 0) + body


def parse_answer(datagram: bytes) -> Listener | None:
    """What an answer tells of; OSError when it is a refusal. Pure."""
    _, kind, *_ = _HEADER.unpack_from(datagram)
    body = datagram[_HEADER.size :]
    if kind == _ERROR:
        number = -struct.unpack_from("=i", body)[0]
        if number == errno.ENOENT:
            return None
        raise OSError(number, os.strerror(number))
    port, address, uid, inode = _FOUND.unpack_from(body)
    if body[1] != int(_LISTEN, 16):
        return None
    name = (address[:4] if body[0] == socket.AF_INET else address).hex()
    loopback = name in ("7f000001", "00000000000000000000ffff7f000001")
    return Listener(int.from_bytes(port), uid, loopback, inode)


def read_tables(port: int) -> list[Listener]:
    """The same from the tables in /proc."""
    return [each for text in _tables() for each in parse_listeners(text) if each.port == port]


def parse_listeners(table: str) -> list[Listener]:
    """The listeners in the text of /proc/net/tcp or tcp6: pure."""
    listeners = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 10 or columns[3] != _LISTEN:
            continue
        address, _, port = columns[1].partition(":")
        if address in _LOOPBACK or address in _ANY:
            listeners.append(Listener(int(port, 16), int(columns[7]), address in _LOOPBACK, int(columns[9])))
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
