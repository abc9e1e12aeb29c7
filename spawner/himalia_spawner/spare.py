"""A child that the nest has forked ahead: it has rehearsed what a server does first, and waits for its plan.

Forking and the first touch of shared memory are most of a start's time, and neither needs to know whose server it
will be. The spare holds what the nest holds, which is no secret, and gets the request's connection from it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from himalia_spawner.preloading import REHEARSE, call_hooks


@dataclass(frozen=True, slots=True)
class Spare:
    """The nest's side of it."""

    pid: int
    ticks: int
    pidfd: int
    door: socket.socket

    def take(self, peer: socket.socket) -> bool:
        """Give it the request; False when it is not there any more."""
        try:
            socket.send_fds(self.door, [b"P"], [peer.fileno()])
        except OSError:
            return False
        return True


def rehearse(modules: Iterable[str]) -> None:
    """Let each preloaded module do once what its server will do. What fails here costs the head start alone."""
    with suppress(OSError), open("/proc/self/comm", "wb") as file:
        file.write(b"himalia-spare")
    call_hooks(modules, REHEARSE)


def wait_at(door: socket.socket) -> socket.socket | None:
    """The request to serve, or None when the nest has gone or needs it no more. Closes the door."""
    with door:
        try:
            _, descriptors, _, _ = socket.recv_fds(door, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None
    return socket.socket(fileno=descriptors[0]) if descriptors else None
