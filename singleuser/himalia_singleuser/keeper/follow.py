"""Live messages of a kernel whose server was held up: what ZMQ dropped for it meanwhile is in the keeper's journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from himalia_singleuser.keeper.journal import Reader
from himalia_singleuser.keeper.numbering import Numbering
from himalia_singleuser.keeper.rejoin import Rejoin
from himalia_singleuser.kernels.relay import Relay

log = structlog.get_logger(__name__)

HELD_UP = "Output may be missing here: the server and the keeper of its kernels were held up."
SPEAK_S = 5.0

Own = Callable[[Coroutine[Any, Any, None]], object]


class Follower:
    """One kernel's. A kernel holds 1,000 messages for who does not read, and drops the next ones."""

    def __init__(self, relay: Relay, folder: str, kernel_id: str, own: Own) -> None:
        self.relay = relay
        self._folder, self._kernel_id, self._own = folder, kernel_id, own
        self._numbering = Numbering()
        relay.divert = self._take

    def was_held_up(self) -> None:
        """Messages may be missing, and none may come any more that would show it: a cell's last ones are among them."""
        if self.relay.divert == self._take:
            self._fill()

    def _take(self, frames: list[bytes]) -> None:
        if self._numbering.skips(frames):
            self._fill(frames)
        else:
            self.relay.take(frames)

    def _fill(self, frames: list[bytes] | None = None) -> None:
        self._numbering = Numbering()
        rejoin = Rejoin(self.relay, Reader(self._folder, self._kernel_id), hole=HELD_UP, then=self._take)
        log.warning("kernel.taken_from_journal", kernel=self._kernel_id, missed=frames is not None)
        if frames is not None:
            rejoin.hold(frames)
        self._own(rejoin.fill())
        self._own(self._have_it_speak())

    async def _have_it_speak(self) -> None:
        """Without a live message there is nothing to join the journal to."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SPEAK_S):
                await self.relay.ask("control", "kernel_info_request")
