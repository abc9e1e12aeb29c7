"""ZMQ sockets on the event loop, without zmq.asyncio.

zmq.asyncio makes a future and two loop turns per message; here a readable descriptor empties the socket in
one callback. The descriptor is edge-triggered: after every send and every full batch the socket must be
asked again, or a message waits until the next edge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

BATCH = 200
BATCH_BYTES = 1024 * 1024
BURST = 32
"""More messages than this without a `calm` between them are a burst."""
PACE_S = 0.01
"""How long a burst may wait in ZMQ's queue. To wake for each message costs more than to pass it on, and takes the
processor from the kernel that writes the next one.
"""
REST_S = 0.005
"""How long a channel that was told to rest is not read, unless it is woken."""
FEW = 4
"""A burst in which no more came meanwhile is over."""
RECONNECT_MS = 20


class ChannelFullError(Exception):
    """The kernel has not read for so long that ZMQ takes no more for it."""


class Context:
    """The process's ZMQ context, made with the first kernel: pyzmq is not imported before."""

    def __init__(self) -> None:
        self._context: Any = None

    def socket(self, kind: str) -> Any:
        """A new socket, `kind` as in zmq ("DEALER", "SUB")."""
        import zmq

        if self._context is None:
            self._context = zmq.Context()
        return self._context.socket(getattr(zmq, kind))

    def close(self) -> None:
        """End the I/O thread. All sockets must be closed."""
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None


class Channel:
    """One connected socket; every message received goes to `on_message`, in order, on the event loop.

    With `on_connected`, which is called once, messages are only taken while the kernel is there: others are dropped.
    What is subscribed to is read every `PACE_S` while it comes as a burst.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        on_message: Callable[[list[bytes]], None],
        *,
        identity: bytes | None = None,
        subscribe: bool = False,
        on_connected: Callable[[], None] | None = None,
    ) -> None:
        import zmq

        self._loop = asyncio.get_running_loop()
        # As plain numbers: members of an enumeration take longer to join than a frame takes to send.
        self._again = zmq.Again
        self._noblock = int(zmq.NOBLOCK)
        self._more = int(zmq.NOBLOCK | zmq.SNDMORE)
        self._events = int(zmq.EVENTS)
        self._pollin = int(zmq.POLLIN)
        self._pollout = int(zmq.POLLOUT)
        self._drops = on_connected is not None
        self._on_connected = on_connected
        self._on_message = on_message
        self._socket = context.socket("SUB" if subscribe else "DEALER")
        self._socket.linger = 0
        # A kernel binds a while after we connect; libzmq's 100 ms between tries would be felt at every start.
        self._socket.reconnect_ivl = RECONNECT_MS
        if subscribe:
            # The loop empties this queue at every turn; ZMQ's own limit would drop output silently.
            self._socket.rcvhwm = 0
            self._socket.subscribe(b"")
        if identity is not None:
            self._socket.identity = identity
        # ZMQ then calls the socket writable when the kernel is connected, not before.
        self._socket.immediate = self._drops
        self._socket.connect(endpoint)
        self._is_paced = subscribe
        self._streak = 0
        self._next_look: asyncio.TimerHandle | None = None
        self._fd = self._socket.fd
        self._loop.add_reader(self._fd, self._drain)
        self._loop.call_soon(self._drain)

    def send(self, frames: Sequence[bytes]) -> None:
        """Hand a message to ZMQ; it waits there until the kernel is bound. ChannelFullError at 1000."""
        if self._socket is None:
            return
        *others, last = frames
        try:
            for frame in others:
                self._socket.send(frame, self._more)
            self._socket.send(last, self._noblock)
        except self._again:
            if self._drops:
                return
            raise ChannelFullError from None
        if self._socket.getsockopt(self._events) & self._pollin:
            self._loop.call_soon(self._drain)

    def calm(self) -> None:
        """What came was no burst, or its end: whatever is next should be here at once."""
        self._streak = 0

    def rest(self) -> None:
        """Nobody waits for the next message, but for another channel's: `wake` when that is here."""
        self._pause(REST_S)

    def wake(self) -> None:
        """Read now what came during a rest, or since the last look at a burst."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._look(BURST)

    def close(self) -> None:
        """Twice is fine. What was not sent yet is dropped."""
        if self._socket is None:
            return
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        else:
            self._loop.remove_reader(self._fd)
        self._socket.close(linger=0)
        self._socket = None

    def _drain(self, burst: int = BURST) -> None:
        taken = read = 0
        # Between large messages whoever writes to browsers gets a turn, or their queues overflow here.
        while taken < BATCH and read <= BATCH_BYTES:
            if self._socket is None:
                return
            try:
                frames = self._receive()
            except self._again:
                self._note_connection()
                if self._is_paced and self._streak > burst:
                    self._pause(PACE_S, FEW)
                return
            taken += 1
            read += sum(map(len, frames))
            self._streak += 1
            self._on_message(frames)
        # More may wait without a new edge; the other sockets get their turn first.
        self._loop.call_soon(self._drain, burst)

    def _note_connection(self) -> None:
        if self._on_connected is not None and self._socket.getsockopt(self._events) & self._pollout:
            on_connected, self._on_connected = self._on_connected, None
            on_connected()

    def _pause(self, seconds: float, burst: int = BURST) -> None:
        if self._next_look is None and self._socket is not None:
            self._loop.remove_reader(self._fd)
            self._next_look = self._loop.call_later(seconds, self._look, burst)

    def _look(self, burst: int) -> None:
        self._next_look = None
        self._loop.add_reader(self._fd, self._drain)
        self._streak = 0
        self._drain(burst)

    def _receive(self) -> list[bytes]:
        """One message. `recv_multipart` asks the socket after each frame whether another follows; a frame knows it."""
        frame = self._socket.recv(self._noblock, False)
        frames = [frame.bytes]
        while frame.more:
            frame = self._socket.recv(self._noblock, False)
            frames.append(frame.bytes)
        return frames
