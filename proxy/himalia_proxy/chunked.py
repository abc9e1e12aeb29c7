"""Where a chunked body ends, found while it streams: pure."""

from __future__ import annotations

import re
from typing import Final

MAX_CHUNK_LINE: Final = 4096
MAX_TRAILERS: Final = 16 * 1024

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")

_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


class ChunkedBody:
    """Finds the end of a chunked body while it streams, and passes on only what was understood.

    With `decode` the payload comes out; otherwise the chunks as they came, whose trailers are kept if
    `trailers` says so. A line that is not complete yet is held back: nobody downstream sees framing that
    was not judged.
    """

    __slots__ = ("_decode", "_held", "_left", "_state", "_trailer_bytes", "_trailers", "done")

    def __init__(self, *, decode: bool = False, trailers: bool = False) -> None:
        self._decode = decode
        self._trailers = trailers
        self._state = _SIZE
        self._left = 0
        self._held = b""
        self._trailer_bytes = 0
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What may be sent on, and what lies behind the body's end. ValueError if the framing is broken."""
        if self._state == _DATA and len(data) < self._left:
            self._left -= len(data)
            return data, b""
        if self._held:
            data, self._held = self._held + data, b""
        out: list[bytes] = []
        at = mark = 0
        while at < len(data) and not self.done:
            if self._state == _DATA:
                take = min(self._left, len(data) - at)
                if self._decode:
                    out.append(data[at : at + take])
                at += take
                self._left -= take
                if not self._left:
                    self._state = _DATA_END
                continue
            end = data.find(b"\r\n", at, at + MAX_CHUNK_LINE)
            if end < 0:
                _refuse_line(data[at : at + MAX_CHUNK_LINE], empty=self._state == _DATA_END)
                break
            line = data[at:end]
            if self._state == _TRAILERS and not self._trailers:
                out.append(b"" if self._decode else data[mark:at])
                self._line(line)
                mark = end if self.done else end + 2
            else:
                self._line(line)
            at = end + 2
        self._held = b"" if self.done else data[at:]
        if not self._decode:
            out.append(data[mark:at])
        return b"".join(out), data[at:] if self.done else b""

    def _line(self, line: bytes) -> None:
        if self._state == _DATA_END:
            if line:
                raise ValueError("a chunk is longer than it says")
            self._state = _SIZE
        elif self._state == _SIZE:
            matched = _CHUNK_LINE.fullmatch(line)
            if matched is None:
                raise ValueError("a chunk's size is malformed")
            self._left = int(matched[1], 16)
            self._state = _DATA if self._left else _TRAILERS
        elif not line:
            self.done = True
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_TRAILERS or not _TRAILER_LINE.fullmatch(line):
                raise ValueError("the trailer section is malformed")


def _refuse_line(partial: bytes, *, empty: bool) -> None:
    """Refuse an incomplete line that can no longer become a good one; `empty`: it must be the empty line."""
    if empty and partial not in (b"", b"\r"):
        raise ValueError("a chunk is longer than it says")
    if b"\n" in partial or b"\r" in partial[:-1] or len(partial) >= MAX_CHUNK_LINE:
        raise ValueError("a chunk's line is malformed")
