"""One browser on one kernel: its limits, its queue and its framing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain

import structlog
from aiohttp import WSCloseCode

from himalia_singleuser.kernels.framing import encode_legacy, encode_v1
from himalia_singleuser.kernels.limits import RateLimit, Verdict
from himalia_singleuser.kernels.messages import Message, make
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.kernels.outbox import Outbox
from himalia_singleuser.sockets import Socket

log = structlog.get_logger(__name__)

BATCH_BYTES = 64 * 1024
"""Written at once while messages wait; what is more waits where neighbours are still joined."""
HOLD_S = 0.005
"""How long what a running cell says may wait for more of it. Each write wakes the browser, or the proxy before it, and
so takes the processor from the kernel, or from the message that is waited for: the idle that follows. Longer than a
short cell takes, shorter than anybody sees.
"""
HELD = frozenset(
    {
        *("execute_input", "stream", "display_data", "update_display_data", "execute_result", "error"),
        *("clear_output", "execute_reply", "status"),
    }
)
"""Types of messages that an idle follows soon, or more of them."""
ENDS = frozenset({"status", "execute_reply"})
"""Types of messages with which a cell ends, once the kernel is not busy."""


class Client:
    """Takes messages without ever waiting; a task of its own writes them, but for the end of a cell."""

    def __init__(self, session_id: str, options: KernelOptions, *, v1: bool) -> None:
        self.session_id = session_id
        self.v1 = v1
        self._options = options
        self._outbox = Outbox(options.queue_bytes)
        self._limit = RateLimit(
            messages_per_s=options.iopub_msg_rate_limit,
            bytes_per_s=options.iopub_data_rate_limit,
            window_s=options.rate_limit_window_s,
        )
        self._filled = asyncio.Event()
        self._hold: asyncio.TimerHandle | None = None
        self._is_busy = False
        self._free: Socket | None = None
        """Where to write while the task has nothing to do."""
        self._backlog: Iterator[Message] = iter(())
        self._in_hand: list[Message] = []
        self.on_caught_up: Callable[[], None] = lambda: None
        """Called when all that waited has been written."""
        self.dismissed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def deliver(self, message: Message) -> None:
        """Queue a message for this browser."""
        if message.channel == "iopub" and not self._admits(message):
            return
        self._put(message)

    def catch_up(self, messages: Iterable[Message]) -> None:
        """What was kept for this browser goes out before anything new. The rate limit is not for this."""
        self._backlog = chain(self._backlog, messages)
        self._filled.set()

    def deliver_all(self, messages: Iterable[Message]) -> None:
        """Queue messages of the server's own making, whatever their size. The rate limit is not for this."""
        self._backlog = chain(self._backlog, self._outbox.take_all(), messages)
        self._filled.set()

    def dismiss(self, code: int, reason: str = "") -> None:
        """Ask for the socket to be closed; the first reason counts."""
        if not self.dismissed.done():
            self.dismissed.set_result((code, reason))

    def unsent(self) -> Iterator[Message]:
        """What was accepted but not written, oldest first. Empties the queue."""
        in_hand, self._in_hand = self._in_hand, []
        backlog, self._backlog = self._backlog, iter(())
        return chain(in_hand, backlog, self._outbox.take_all())

    async def write_to(self, socket: Socket) -> None:
        """Write the queue until cancelled or the connection is gone."""
        try:
            while True:
                self._free = socket
                await self._filled.wait()
                self._free = None
                self._filled.clear()
                while self._write_some(socket) or self._in_hand:
                    await socket.drained()
                    self._in_hand.clear()
                self.on_caught_up()
        except ConnectionError:
            return
        finally:
            self._free = None

    def _write_some(self, socket: Socket) -> bool:
        """Whether there was something to write. Its last message stays in hand: it may not have arrived."""
        frames = self._take_in_hand()
        if frames:
            socket.write(frames)
            del self._in_hand[:-1]
        return bool(frames)

    def _fill(self) -> None:
        """Have what waits written at the loop's next turn."""
        self._drop_hold()
        self._filled.set()

    def _drop_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None

    def _fill_soon(self) -> None:
        if self._outbox.size > BATCH_BYTES:
            self._fill()
        elif self._hold is None:
            self._hold = asyncio.get_running_loop().call_later(HOLD_S, self._fill)

    def _write_now(self) -> None:
        """Write without waiting for the task: nothing in front of the end of a cell, which somebody waits for."""
        if self._free is not None and not self._filled.is_set():
            with suppress(ConnectionError):
                self._write_some(self._free)
                if not self._free.is_slow and not self._outbox:
                    self._in_hand.clear()
                    self._drop_hold()
                    return
        self._fill()  # the task waits, writes the rest, or finds the connection gone

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be written."""
        return self._filled.is_set() or bool(self._in_hand) or len(self._outbox) > 0

    def _take_in_hand(self) -> list[tuple[bytes, bool]]:
        """The next frames, some `BATCH_BYTES` of them, and their messages in hand."""
        frames: list[tuple[bytes, bool]] = []
        size = 0
        while size < BATCH_BYTES and (message := self._next()) is not None:
            self._in_hand.append(message)
            frames.append(self._encode(message))
            size += len(frames[-1][0])
        return frames

    def _next(self) -> Message | None:
        message = next(self._backlog, None)
        return message if message is not None else self._outbox.take()

    async def close_when_dismissed(self, socket: Socket) -> None:
        """Turn a dismissal into a close frame."""
        code, reason = await self.dismissed
        await socket.close(code, reason)

    def _put(self, message: Message) -> None:
        if not self._outbox.put(message):
            self.dismiss(
                WSCloseCode.TRY_AGAIN_LATER, "this client reads too slowly; connect again to catch up"
            )
            return
        if self._is_busy and message.type in HELD:
            self._fill_soon()
        elif message.type in ENDS:
            self._write_now()
        else:
            self._fill()

    def _encode(self, message: Message) -> tuple[bytes, bool]:
        if self.v1:
            if message.v1 is None:
                message.v1 = encode_v1(message.channel, message.parts)
            return message.v1, False
        if message.legacy is None:
            message.legacy = encode_legacy(message)
        return message.legacy

    def _admits(self, message: Message) -> bool:
        if message.type == "status":
            state = message.content.get("execution_state")
            self._is_busy = state == "busy"
            if state == "idle":
                self._limit.clear()
            return True
        verdict = self._limit.judge(message.type, len(message.parts[3]), time.monotonic())
        if verdict is Verdict.DROP_AND_TELL:
            self._put(self._limit_note(message))
        return verdict is Verdict.PASS

    def _limit_note(self, message: Message) -> Message:
        cause = self._limit.cause
        setting = "iopub_msg_rate_limit" if cause == "message" else "iopub_data_rate_limit"
        rate = getattr(self._options, setting)
        unit = "messages/s" if cause == "message" else "bytes/s"
        text = (
            f"\n[IOPub {cause} rate exceeded: more than {rate:g} {unit} over "
            f"{self._options.rate_limit_window_s:g} s. Output is left out until the kernel calms down; "
            f"the kernel itself goes on. The setting is called {setting}.]\n"
        )
        return make("iopub", "stream", {"name": "stderr", "text": text}, parent=message.parts[1])
