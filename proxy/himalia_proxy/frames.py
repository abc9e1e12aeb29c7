"""Where one WebSocket frame ends and the next begins (RFC 6455, section 5.2): so much, and no more, of what passes.

So that a proxy that ends can say goodbye in a frame of its own: between two frames, never inside one. Between the
fragments of a message is between two frames: control frames may stand there (section 5.4). Pure.
"""

from __future__ import annotations

import os
from typing import Final

GOING_AWAY: Final = 1001
RESTARTING: Final = 1012

_CLOSE: Final = 8
_WHOLE: Final = frozenset((0x81, 0x82, 0xC1, 0xC2))  # text or binary in one frame, compressed or not
_FREE: Final = 32
_SMALL: Final = 256
_OPCODES: Final = frozenset((0, 1, 2, 8, 9, 10))


class Frames:
    """Follows one direction.

    `lost`: what came are no frames, or far too many tiny ones. `closed`: a close frame has begun; nothing may follow.
    """

    __slots__ = ("_head", "_left", "closed", "lost")

    def __init__(self) -> None:
        self._left = 0  # of the frame under way, bytes still to come
        self._head = b""  # the beginning of a frame's head
        self.closed = False
        self.lost = False

    @property
    def between(self) -> bool:
        """Whether another frame could begin here."""
        return not (self._left or self._head or self.lost or self.closed)

    def feed(self, data: bytes, *, stop: bool = False) -> int:
        """How many bytes of `data` were followed: all; with `stop`, those up to the next end of a frame."""
        size = len(data)
        if self._left > size:  # the middle of a large frame
            self._left -= size
            return size
        if size > 3 and not (self._left or self._head or self.closed or self.lost) and data[0] in _WHOLE:
            # Nearly always a piece is one whole frame; the general way would cost a tenth of the relaying.
            second = data[1]
            short = second & 0x7F
            head = 2 if second < 0x80 else 6
            if short == 126:
                head, short = head + 2, (data[2] << 8) + data[3]
            if size == head + short and second & 0x7F != 127:
                return size
        at, begun, most = 0, 0, _FREE + size // _SMALL
        while not self.lost:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                if self._left:
                    return size
                if stop:
                    return at
            elif stop and at and not self._head:
                return at
            if at == size:
                return size
            at += self._begin(data[at : at + 14])
            begun += 1
            # Two bytes are a frame, and half a million of them in a megabyte would keep everybody else waiting.
            self.lost = self.lost or begun > most
        return size

    def _begin(self, data: bytes) -> int:
        """Read a head, or keep what there is of it; how many bytes of `data` that took."""
        kept = len(self._head)
        head = self._head + data
        if len(head) < 2:
            self._head = head
            return len(data)
        short = head[1] & 0x7F
        wide = {126: 2, 127: 8}.get(short, 0)
        size = 2 + wide + (4 if head[1] & 0x80 else 0)
        opcode = head[0] & 0x0F
        if opcode not in _OPCODES or (opcode >= _CLOSE and wide):
            self.lost = True
            return len(data)
        if len(head) < size:
            self._head = head
            return len(data)
        self._head = b""
        self._left = int.from_bytes(head[2 : 2 + wide], "big") if wide else short
        self.closed = self.closed or opcode == _CLOSE
        return size - kept


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    """A close frame; `masked` as clients send it."""
    payload = code.to_bytes(2, "big") + reason.encode()
    if not masked:
        return bytes((0x80 | _CLOSE, len(payload))) + payload
    mask = os.urandom(4)
    hidden = bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))
    return bytes((0x80 | _CLOSE, 0x80 | len(payload))) + mask + hidden
