"""Whether a kernel's process still runs: it echoes what comes on its heartbeat channel.

The echo is made by a thread that needs no Python: a cell that computes for hours does not hinder it, a process that is
stopped, swapped out or starved does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from himalia_singleuser.kernels.channels import Channel, ChannelFullError, Context
from himalia_singleuser.kernels.messages import Message, make

BEATS = 4
"""Per time limit. So a kernel is found silent between three quarters of the limit and the whole of it."""


class Heartbeat:
    """Watches one kernel. One that has never echoed is not judged: not all kernels have the channel."""

    def __init__(
        self,
        context: Context,
        *,
        limit_s: float,
        spoken: Callable[[], object],
        on_change: Callable[[bool], None],
    ) -> None:
        """`spoken` is another object each time the kernel published something, which is a sign of life as well."""
        self._context = context
        self._every_s = limit_s / BEATS
        self._spoken = spoken
        self._on_change = on_change
        self._channel: Channel | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_echoed = self._silent = False
        self._unanswered = 0
        self._last_spoken: object = None

    def watch(self, endpoint: str) -> None:
        """From now on, a kernel that answers there."""
        self.stop()
        if self._every_s > 0:
            self._channel = Channel(self._context, endpoint, self._echoed)
            self._beat()

    def stop(self) -> None:
        """It is expected to go. Nothing is told. Twice is fine."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._timer is not None:
            self._timer.cancel()
        self._has_echoed = self._silent = False
        self._unanswered = 0

    def _beat(self) -> None:
        assert self._channel is not None
        if self._spoken() is not self._last_spoken:
            self._last_spoken, self._unanswered = self._spoken(), 0
        # Counted, not timed: a server that was suspended itself must not take its kernels for silent.
        self._judge(silent=self._has_echoed and self._unanswered >= BEATS - 1)
        with suppress(ChannelFullError):
            self._channel.send([b"", b"ping"])
        self._unanswered += 1
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._beat)

    def _echoed(self, _frames: list[bytes]) -> None:
        self._has_echoed, self._unanswered = True, 0
        self._judge(silent=False)

    def _judge(self, *, silent: bool) -> None:
        if silent is not self._silent:
            self._silent = silent
            self._on_change(silent)


def notice(state: str, why: str = "") -> Message:
    """What browsers are told: the state, and in words why it is not the kernel's own.

    Front ends refuse states they do not know. "starting" is the one they have for a kernel that is there and cannot
    answer, and which they show without doing anything of their own. The words are for our extension.
    """
    return make("iopub", "status", {"execution_state": state}, metadata={"himalia": {"silent": why}})
