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
_ANSWER_S = 1.0
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


def listener(port: int) -> Listener | None:
    """What a connection to 127.0.0.1:`port` reaches, None if nobody listens."""
    try:
        found = ask_kernel(port)
    except OSError:  # no sock_diag in this kernel: it is optional, the tables never are
        found = read_tables(port)
    found.sort(key=lambda each: not each.loopback)
    return found[0] if found else None


def ask_kernel(port: int) -> list[Listener]:
    """The listeners on this port; OSError where the kernel cannot be asked.

    It looks at listening sockets only. The tables in /proc are made from every place for a connection that the machine
    has: 9 ms on an idle one, at each look of the hub at each server.
    """
    found: list[Listener] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_ANSWER_S)
        for family in (socket.AF_INET, socket.AF_INET6):
            kernel.sendall(_question(family, port))
            whole = False
            while not whole:
                more, whole = parse_answer(kernel.recv(1 << 16))
                found += more
    return [each for each in found if each.port == port]


def _question(family: int, port: int) -> bytes:
    dump, request_and_dump, listening = 20, 0x301, 1 << 10
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, listening)
    body += struct.pack("!HH16s16sI8s", port, 0, b"", b"", 0, b"\xff" * 8)
    return _HEADER.pack(_HEADER.size + len(body), dump, request_and_dump, 1, 0) + body


def parse_answer(datagram: bytes) -> tuple[list[Listener], bool]:
    """What one datagram of an answer tells of, and whether it is the last; OSError when it is a refusal. Pure."""
    found: list[Listener] = []
    while datagram:
        length, kind, *_ = _HEADER.unpack_from(datagram)
        body, datagram = datagram[_HEADER.size : length], datagram[(length + 3) & ~3 :]
        if kind == 3:  # NLMSG_DONE
            return found, True
        if kind == 2:  # NLMSG_ERROR
            number = -struct.unpack_from("=i", body)[0]
            raise OSError(number, os.strerror(number))
        port, address, uid, inode = _FOUND.unpack_from(body)
        name = (address[:4] if body[0] == socket.AF_INET else address).hex()
        loopback = name in ("7f000001", "00000000000000000000ffff7f000001")
        if loopback or not name.strip("0"):
            found.append(Listener(int.from_bytes(port), uid, loopback, inode))
    return found, False


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
