"""Passing listening sockets, table and duty from a running proxy to the one that replaces it.

The successor connects to a unix socket, is sent the sockets (SCM_RIGHTS) and the table, and says when it serves. The
predecessor then accepts nothing more and stays, for as long as it has tunnels, as a member of the successor. Nobody is
refused meanwhile: connections wait in the kernel's queue, which is the socket's and not a process's.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from himalia_proxy.channel import Channel, Message
from himalia_proxy.core import Core, log
from himalia_proxy.errors import StartError
from himalia_proxy.listeners import Place, bind_all, listens_at, remove
from himalia_proxy.members import Membership

PATIENCE_S: Final = 30.0
_MOST_SOCKETS: Final = 16


@dataclass
class Taken:
    """What a successor got: sockets by name, the table, and the connection to the predecessor."""

    sockets: dict[str, socket.socket]
    table: Mapping[str, Any]
    connection: socket.socket


def take(path: str) -> Taken | None:
    """Ask the proxy at `path` for everything; None if there is none. Blocks, before anything is served."""
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    asking.settimeout(PATIENCE_S)
    try:
        asking.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        asking.close()
        return None
    except OSError as error:
        asking.close()
        raise StartError(f"--handover-socket {path!r} cannot be reached: {error}.") from None
    try:
        data, descriptors, _, _ = socket.recv_fds(asking, 65536, _MOST_SOCKETS)
        if not data:
            raise OSError("it is being replaced already, or it is ours no more")
        names = json.loads(data)["sockets"]
        sockets = {
            name: socket.socket(fileno=number) for name, number in zip(names, descriptors, strict=True)
        }
        asking.sendall(b"{}\n")
        with asking.makefile("rb") as lines:
            table = json.loads(lines.readline())["table"]
    except (OSError, ValueError, KeyError) as error:
        asking.close()
        raise StartError(f"the proxy at --handover-socket {path!r} did not hand over: {error}.") from None
    return Taken(sockets, table, asking)


def fitting(taken: Taken, places: Mapping[str, Place]) -> dict[str, socket.socket]:
    """The sockets at those places: inherited where they listen there, otherwise bound. StartError."""
    kept: dict[str, socket.socket] = {}
    for name, sock in taken.sockets.items():
        place, at = places.get(name), sock.getsockname()
        if place is not None and listens_at(at, place):
            kept[name] = sock
        else:
            sock.close()
    return kept | bind_all({name: place for name, place in places.items() if name not in kept})


class Handover:
    """The predecessor's side, at a unix socket that only its own account may connect to."""

    def __init__(
        self,
        core: Core,
        membership: Membership,
        sockets: Mapping[str, socket.socket],
        table: Callable[[], Mapping[str, Any]],
        *,
        pause: Callable[[], Awaitable[None]],
        go_on: Callable[[], Awaitable[None]],
        handed_over: Callable[[], None],
    ) -> None:
        self._core = core
        self._membership = membership
        self._sockets = sockets
        self._table = table
        self._pause = pause
        self._go_on = go_on
        self._handed_over = handed_over
        self._listening: socket.socket | None = None
        self._path = ""
        self._task: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self.done = False

    def listen(self, path: str) -> None:
        """Wait for a successor; whoever listens there already is replaced. StartError."""
        beside = f"{path}.{os.getpid()}"
        before = os.umask(0o177)
        try:
            sock = bind_all({"handover": Place(beside, "", 0, "--handover-socket")})["handover"]
        finally:
            os.umask(before)
        os.rename(beside, path)
        self._listening, self._path = sock, path
        self._core.loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Wait no more. The path is the successor's, if there is one."""
        if self._listening is not None:
            self._core.loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
            if not self.done:
                remove(self._path)

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            asking, _ = self._listening.accept()
        except OSError:
            return
        uid = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if self._task is not None or self.done or uid not in (0, os.geteuid()):
            asking.close()
            return
        self._task = self._core.loop.create_task(self._give(asking))

    async def _give(self, asking: socket.socket) -> None:
        # The API first: what it accepted after the table was sent would be lost.
        await self._pause()
        names = list(self._sockets)
        try:
            head = json.dumps({"sockets": names}).encode()
            socket.send_fds(asking, [head], [self._sockets[name].fileno() for name in names])
            self._channel = Channel(self._heard, self._lost)
            await self._channel.speak_over(asking)
        except OSError as error:
            asking.close()
            await self._give_up(str(error))

    def _heard(self, message: Message) -> None:
        if self.done:
            self._membership.heard(message)
        elif "serving" in message:
            self.done = True
            self._membership.channel = self._channel
            self._handed_over()
        elif self._channel is not None:
            self._channel.send({"table": self._table()})

    def _lost(self) -> None:
        if not self.done:
            self._task = self._core.loop.create_task(self._give_up("the successor ended before it served"))

    async def _give_up(self, why: str) -> None:
        log.error("handover.failed reason=%r", why)
        await self._go_on()
        self._task = self._channel = None
