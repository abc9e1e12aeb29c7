"""Messages of the Jupyter protocol as raw parts: made, signed, split. Contents stay bytes."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

DELIMITER = b"<IDS|MSG>"
EMPTY = b"{}"
PROTOCOL_VERSION = "5.4"
PARENTS_KEPT = 64
PARENT_BYTES = 4096
"""Longer ones are parsed each time, so that what is kept stays small."""

Header = dict[str, Any]

BLANKS = " \t\n\r"
"""What JSON takes for blanks."""
_decode = json.JSONDecoder().raw_decode


@dataclass(slots=True)
class Message:
    """One message on one channel. `parts`: header, parent header, metadata, content, buffers…

    The encoded forms are kept, so that a broadcast is encoded once however many browsers listen.
    `type` is the header's `msg_type`, or an empty string when the sender gave none.
    """

    channel: str
    parts: Sequence[bytes]
    header: Header
    size: int = 0
    type: str = ""
    v1: bytes | None = field(default=None, repr=False)
    legacy: tuple[bytes, bool] | None = field(default=None, repr=False)
    _content: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.size = sum(map(len, self.parts))
        kind = self.header.get("msg_type")
        self.type = kind if isinstance(kind, str) else ""

    @property
    def parent(self) -> Header:
        """The parent header, empty when it is no object. Not to be changed: a request's messages share it."""
        raw = self.parts[1]
        return _kept_parent(raw) if len(raw) <= PARENT_BYTES else parse_object(raw) or {}

    @property
    def content(self) -> dict[str, Any]:
        """The content, empty when it is no object; parsed once, and then kept as long as the message: ask for small
        ones only. Not to be changed.
        """
        if self._content is None:
            self._content = parse_object(self.parts[3]) or {}
        return self._content


class Signer:
    """HMAC-SHA256 over the four JSON parts, hexadecimal. The key never leaves the server."""

    def __init__(self, key: bytes) -> None:
        self._start = hmac.new(key, digestmod=hashlib.sha256) if key else None

    def sign(self, parts: Sequence[bytes]) -> bytes:
        """The signature of header, parent, metadata and content. Empty without a key."""
        if self._start is None:
            return b""
        digest = self._start.copy()
        for part in parts[:4]:
            digest.update(part)
        return digest.hexdigest().encode()

    def to_wire(self, parts: Sequence[bytes]) -> list[bytes]:
        """What is written to a DEALER socket."""
        return [DELIMITER, self.sign(parts), *parts]

    def from_wire(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """The parts after identities and signature; None if frames are missing or the signature is wrong."""
        try:
            at = frames.index(DELIMITER)
        except ValueError:
            return None
        parts = list(frames[at + 2 :])
        if len(parts) < 4 or not hmac.compare_digest(frames[at + 1], self.sign(parts)):
            return None
        return parts


def parse_object(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in `raw`, or None for anything else."""
    try:
        text = raw.decode("utf-8", "surrogatepass")  # given bytes, `loads` looks for other encodings first
        if not text.startswith("{"):
            value = json.loads(text)
        else:
            # `loads` takes twice the time for a header, and each message has one.
            value, end = _decode(text)
            if text[end:].strip(BLANKS):
                return None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@lru_cache(PARENTS_KEPT)
def _kept_parent(raw: bytes) -> Header:
    # A kernel writes the same parent into every message of a request.
    return parse_object(raw) or {}


def dump(value: Any) -> bytes:
    """Compact-enough JSON in UTF-8, as other implementations write it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def make(
    channel: str,
    msg_type: str,
    content: dict[str, Any],
    *,
    parent: bytes = EMPTY,
    session: str = "",
    metadata: dict[str, Any] | None = None,
) -> Message:
    """A message of the server's own making, for example a status that the kernel can no longer send."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "username": "",
        "session": session or uuid.uuid4().hex,
        "date": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "msg_type": msg_type,
        "version": PROTOCOL_VERSION,
    }
    return Message(channel, [dump(header), parent, dump(metadata or {}), dump(content)], header)
