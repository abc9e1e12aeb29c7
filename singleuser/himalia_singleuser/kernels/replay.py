"""What is kept for browsers that went away, until they come back with the same session id.

One ring per kernel holds every message once, however many browsers are away; each of them has a place in
it. The ring is bounded in bytes: what no longer fits goes to a file, and when that is full, too, the oldest of
the rest are left out and whoever missed them is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from himalia_singleuser.kernels.messages import EMPTY, Message
from himalia_singleuser.kernels.outbox import MESSAGE_BYTES, gap_note
from himalia_singleuser.kernels.spill import Spill


@dataclass(frozen=True, slots=True)
class Kept:
    """A message, its number in the ring, and the one session it is for (None: for all)."""

    number: int
    target: str | None
    message: Message


class Replay:
    """The ring of one kernel."""

    def __init__(self, *, most_bytes: int, most_sessions: int, spill: Spill | None = None) -> None:
        self._spill = spill
        self._most_bytes = most_bytes
        self._most_sessions = most_sessions
        self._ring: deque[Kept] = deque()
        self._next = 0
        self._missed: dict[str, int] = {}
        self._since: dict[str, int] = {}
        self.size = 0

    @property
    def absent(self) -> frozenset[str]:
        """The sessions that are waited for."""
        return frozenset(self._since)

    def leave(self, session_id: str, unsent: Iterable[Message] = ()) -> list[str]:
        """A browser went away with `unsent` still queued. The sessions forgotten to make room for it."""
        if self._most_sessions < 1:
            return [session_id]
        self._since[session_id] = self._next
        self._missed[session_id] = 0
        for message in unsent:
            self.keep(message, target=session_id)
        forgotten = []
        while len(self._since) > self._most_sessions:
            forgotten.append(next(iter(self._since)))
            self.forget(forgotten[-1])
        return forgotten

    def keep(self, message: Message, *, target: str | None = None) -> None:
        """Keep it if somebody who should see it is away."""
        if not self._since or (target is not None and target not in self._since):
            return
        self._ring.append(Kept(self._next, target, message))
        self._next += 1
        self.size += message.size + MESSAGE_BYTES
        while self.size > self._most_bytes:
            self._drop_oldest()

    def take(self, session_id: str) -> Iterator[Message]:
        """All that this session missed, in order; it is no longer waited for. What is on disk is read late."""
        since = self._since.get(session_id)
        if since is None:
            return iter(())
        spilled = self._spill.read(since, session_id) if self._spill is not None else iter(())
        messages = [
            kept.message
            for kept in self._ring
            if kept.number >= since and (kept.target is None or kept.target == session_id)
        ]
        missed = self._missed[session_id]
        self.forget(session_id)
        if missed:
            parent = next((one.parts[1] for one in messages if one.channel == "iopub"), EMPTY)
            messages.insert(
                0, gap_note(missed, "more came than is kept for an absent browser", parent=parent)
            )
        return chain(spilled, messages)

    def close(self) -> None:
        """Forget all."""
        for session_id in list(self._since):
            self.forget(session_id)

    def forget(self, session_id: str) -> None:
        """Stop waiting for it and free what only it needed."""
        self._since.pop(session_id, None)
        self._missed.pop(session_id, None)
        oldest = min(self._since.values(), default=self._next)
        while self._ring and self._ring[0].number < oldest:
            self._pop()
        if not self._since and self._spill is not None:
            self._spill.free()

    def _drop_oldest(self) -> None:
        lost = self._pop()
        if self._spill is not None and self._spill.append(lost.number, lost.target, lost.message):
            return
        for session_id, since in self._since.items():
            if since <= lost.number and lost.target in {None, session_id}:
                self._missed[session_id] += 1

    def _pop(self) -> Kept:
        kept = self._ring.popleft()
        self.size -= kept.message.size + MESSAGE_BYTES
        return kept
