"""What waits to be written to one browser. Bounded in bytes; a reader that keeps up never notices it.

While messages wait, neighbouring pieces of one stream are joined, as a front end would join them on
arrival. Past the bound outputs are left out and one line says how many; replies, states and widget traffic
are never left out, and if they alone pass twice the bound the browser is sent away to come back and catch up.
"""

from __future__ import annotations

from collections import deque

from himalia_singleuser.kernels.messages import EMPTY, Message, dump, make, parse_object

LEFT_OUT_FIRST = frozenset({"stream", "display_data", "update_display_data", "execute_result"})
RUN_BYTES = 256 * 1024
MESSAGE_BYTES = 400
"""What a queued message costs besides its parts, so that a flood of empty ones is bounded, too."""


class StreamRun:
    """Adjacent `stream` messages of one parent and one name, joined when they are taken out."""

    __slots__ = ("first", "name", "size", "texts")

    def __init__(self, first: Message, name: str, text: str) -> None:
        self.first, self.name, self.texts, self.size = first, name, [text], first.size

    def joined(self) -> Message:
        """One message that says what all of them said."""
        if len(self.texts) == 1:
            return self.first
        content = dump({"name": self.name, "text": "".join(self.texts)})
        return Message("iopub", [*self.first.parts[:3], content], self.first.header)


class Outbox:
    """A queue of messages for one reader."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._waiting: deque[Message | StreamRun] = deque()
        self._left_out = 0
        self._left_out_parent = EMPTY
        self.size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message) -> bool:
        """Queue it. False when even messages that must not be left out no longer fit."""
        size = message.size + MESSAGE_BYTES
        may_go = message.channel == "iopub" and message.type in LEFT_OUT_FIRST
        if self.size + size > self._most_bytes and may_go:
            self._left_out += 1
            self._left_out_parent = message.parts[1]
            return True
        if self.size + size > 2 * self._most_bytes:
            return False
        if self._left_out:
            self._tell()
        if message.type == "stream" and message.channel == "iopub" and self._waiting:
            self._put_stream(message)
        else:
            self._append(message, size)
        return True

    def take(self) -> Message | None:
        """The oldest message, or None."""
        if not self._waiting:
            return None
        entry = self._waiting.popleft()
        if isinstance(entry, StreamRun):
            self.size -= entry.size + MESSAGE_BYTES
            return entry.joined()
        self.size -= entry.size + MESSAGE_BYTES
        return entry

    def take_all(self) -> list[Message]:
        """Everything that waits, oldest first, with the note on what was left out."""
        if self._left_out:
            self._tell()
        left: list[Message] = []
        while (message := self.take()) is not None:
            left.append(message)
        return left

    def _append(self, entry: Message | StreamRun, size: int) -> None:
        self._waiting.append(entry)
        self.size += size

    def _put_stream(self, message: Message) -> None:
        content = parse_object(message.parts[3]) or {}
        name, text = content.get("name"), content.get("text")
        if not isinstance(name, str) or not isinstance(text, str):
            self._append(message, message.size + MESSAGE_BYTES)
            return
        last = self._waiting[-1]
        if (
            isinstance(last, StreamRun)
            and last.name == name
            and last.size < RUN_BYTES
            and last.first.parts[1] == message.parts[1]
        ):
            last.texts.append(text)
            last.size += len(message.parts[3])
            self.size += len(message.parts[3])
        else:
            self._append(StreamRun(message, name, text), message.size + MESSAGE_BYTES)

    def _tell(self) -> None:
        note = gap_note(self._left_out, "this browser reads too slowly", parent=self._left_out_parent)
        self._left_out = 0
        self._append(note, note.size + MESSAGE_BYTES)


def gap_note(count: int, why: str, *, parent: bytes) -> Message:
    """The stderr line that stands where outputs are missing."""
    text = f"\n[{count} output messages are not shown here: {why}.]\n"
    return make("iopub", "stream", {"name": "stderr", "text": text}, parent=parent)
