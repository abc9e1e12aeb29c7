"""From what the keeper wrote down to what the kernel publishes now: nothing twice, nothing left out.

The keeper has been subscribed all the time; a new server's subscription begins at some moment that nobody tells it.
So live messages wait until the journal has come to the first of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from himalia_singleuser.keeper.journal import Reader, mark_of
from himalia_singleuser.keeper.numbering import Numbering
from himalia_singleuser.kernels.relay import Relay
from himalia_singleuser.kernels.spoken_for import note_gap

LOOK_S = (0.02, 0.25)
"""The first and the longest pause between two looks into the journal."""
JOIN_S = 10.0
"""How long the journal may take to come to a message that is here already, before it is taken to have a hole."""
TURN = 200
MOST_TAKEN = 20_000
"""Messages by which the live subscription may lag behind the journal."""
HOLE = "Output may be missing here: the server was killed, and what was kept meanwhile has a hole."


class Rejoin:
    """One kernel's. From its making on, live messages wait; in the end they go to `then`, or straight to the relay."""

    def __init__(
        self,
        relay: Relay,
        reader: Reader,
        *,
        hole: str = HOLE,
        then: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self._relay, self._reader, self._hole, self._then = relay, reader, hole, then
        self._held: deque[list[bytes]] = deque()
        self._taken: dict[bytes, None] = {}
        self._numbering, self._before = Numbering(), b""
        self._agreed: tuple[bytes, bytes] | None = None
        relay.divert = self._held.append

    def hold(self, frames: list[bytes]) -> None:
        """The live message before which some are missing. If the journal has none between either, nobody lost any.

        Two readers that ZMQ drops messages for do not lose the very same ones.
        """
        self._agreed = (mark_of(self._relay.latest), mark_of(frames))
        self._held.append(frames)

    async def replay(self, *, known: bytes, shown: bytes) -> None:
        """All that is written down until now.

        `known`: the last message the former server's own notes contain; `shown`: the last it gave to its browsers. An
        empty mark, or one that is not there any more, lies before the journal's begin.
        """
        marks = {known, shown} - {b""}
        found = {mark_of(frames) for frames in self._reader.read()} & marks
        self._reader.rewind()
        is_known, is_shown = known in found, shown in found
        for count, frames in enumerate(self._reader.read()):
            self._take(frames, shown=is_shown, known=is_known)
            mark = mark_of(frames)
            is_known = is_known and mark != known
            is_shown = is_shown and mark != shown
            if count % TURN == TURN - 1:
                await asyncio.sleep(0)
        if known and known not in found:
            note_gap(
                self._relay, self._hole
            )  # a journal holds the last message of the notes, or it began too late

    async def fill(self) -> None:
        """What the live messages lack, from the relay's last one on; or the word that some is missing."""
        latest = mark_of(self._relay.latest)
        try:
            async with asyncio.timeout(JOIN_S):
                while latest not in map(mark_of, self._reader.read()):
                    await asyncio.sleep(LOOK_S[0])
        except TimeoutError:
            note_gap(self._relay, self._hole)
            self.end()
            return
        self._reader.rewind()
        await self.replay(known=latest, shown=latest)
        await self.follow()

    async def follow(self) -> None:
        """Go on with the journal until the relay's own subscription has taken over."""
        pause, since = LOOK_S[0], 0.0
        try:
            while not self._has_joined():
                since = since or (time.monotonic() if self._held else 0.0)
                if since and time.monotonic() - since > JOIN_S:
                    note_gap(self._relay, self._hole)
                    return
                await asyncio.sleep(pause)
                pause = LOOK_S[0] if self._held else min(pause * 1.5, LOOK_S[1])
        finally:
            self.end()

    def end(self) -> None:
        """Live messages go through from now on, first those that waited; not those that the journal had before."""
        self._relay.divert = self._skip
        while self._held:
            self._skip(self._held.popleft())

    def _skip(self, frames: list[bytes]) -> None:
        if mark_of(frames) not in self._taken:
            self._relay.divert = self._then
            self._taken.clear()
            self._relay.take(frames)

    def _has_joined(self) -> bool:
        """Take what is new in the journal; whether the live messages begin within it."""
        for frames in self._reader.read():
            self._take(frames)
        return bool(self._held) and mark_of(self._held[0]) in self._taken

    def _take(self, frames: list[bytes], *, shown: bool = False, known: bool = False) -> None:
        mark = mark_of(frames)
        skips = self._numbering.skips(frames)
        if not known:
            if skips and (self._before, mark) != self._agreed:
                note_gap(self._relay, self._hole)  # the keeper itself was held up
            self._relay.take(frames, shown=shown)
        self._before = mark
        self._taken[mark] = None
        if len(self._taken) > MOST_TAKEN:
            del self._taken[next(iter(self._taken))]
