"""The two WebSocket framings of kernel messages. Pure: bytes in, parts out, and back.

`v1.kernel.websocket.jupyter.org` is binary and little-endian; its parts are the ZMQ parts, so nothing is
parsed but offsets. Without a subprotocol, messages are JSON text, or big-endian binary if they have buffers.
Every count and offset is checked against the length of the frame before memory is spent on it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from itertools import pairwise

from himalia_singleuser.kernels.errors import FrameError
from himalia_singleuser.kernels.messages import Header, Message, dump, parse_object

V1 = "v1.kernel.websocket.jupyter.org"
JSON_PARTS = ("header", "parent_header", "metadata", "content")
LEAST_OFFSETS = 6  # channel, four parts, end


def encode_v1(channel: str, parts: Sequence[bytes]) -> bytes:
    """One binary frame: count, offsets, channel, parts."""
    name = channel.encode()
    count = len(parts) + 2
    at = 8 * (count + 1)
    offsets = [at]
    for piece in (name, *parts):
        at += len(piece)
        offsets.append(at)
    return b"".join((struct.pack(f"<{count + 1}Q", count, *offsets), name, *parts))


def decode_v1(frame: bytes) -> tuple[str, list[bytes]]:
    """Channel and parts of a binary frame; FrameError when a count or an offset cannot be true."""
    length = len(frame)
    if length < 8:
        raise FrameError(f"the frame has {length} bytes; the offset count alone takes 8")
    (count,) = struct.unpack_from("<Q", frame)
    if count < LEAST_OFFSETS or 8 * (count + 1) > length:
        raise FrameError(f"offset count {count} does not fit a frame of {length} bytes")
    offsets = struct.unpack_from(f"<{count}Q", frame, 8)
    _check_offsets(offsets, least=8 * (count + 1), length=length)
    if offsets[-1] != length:
        raise FrameError(f"the last offset is {offsets[-1]}, the frame ends at {length}")
    pieces = [frame[start:end] for start, end in pairwise(offsets)]
    return _utf8(pieces[0], "channel"), pieces[1:]


def encode_legacy(message: Message) -> tuple[bytes, bool]:
    """(frame, is_text). The parts are JSON already, so the object is put together without parsing them."""
    head = message.header
    body = b"".join(
        (
            b'{"channel": ',
            dump(message.channel),
            b', "msg_id": ',
            dump(head.get("msg_id", "")),
            b', "msg_type": ',
            dump(message.type),
            *(
                piece
                for name, part in zip(JSON_PARTS, message.parts[:4], strict=True)
                for piece in (b', "', name.encode(), b'": ', part or b"{}")
            ),
        )
    )
    buffers = message.parts[4:]
    if not buffers:
        return _clean(body + b', "buffers": []}'), True
    parts = [_clean(body + b"}"), *buffers]
    at = 4 * (len(parts) + 1)
    offsets = []
    for part in parts:
        offsets.append(at)
        at += len(part)
    return b"".join((struct.pack(f">{len(parts) + 1}I", len(parts), *offsets), *parts)), False


def decode_legacy(frame: bytes, *, text: bool) -> tuple[str, list[bytes]]:
    """Channel and parts of a frame of the default protocol. No channel means shell."""
    buffers: list[bytes] = []
    if not text:
        frame, buffers = _split_legacy(frame)
    message = parse_object(frame)
    if message is None:
        raise FrameError("the message is not a JSON object")
    parts = []
    for name in JSON_PARTS:
        value = message.get(name, {})
        if not isinstance(value, dict):
            raise FrameError(f"{name} must be an object, not {type(value).__name__}")
        parts.append(json.dumps(value).encode())
    channel = message.get("channel", "shell")
    if not isinstance(channel, str):
        raise FrameError("channel must be a string")
    return channel, parts + buffers


def read_header(part: bytes) -> Header:
    """The header of a client's message; FrameError unless it is an object that names a type and an id."""
    header = parse_object(part)
    if header is None:
        raise FrameError("the header is not a JSON object")
    for name in ("msg_id", "msg_type"):
        if not isinstance(header.get(name), str) or not header[name]:
            raise FrameError(f"the header has no {name}")
    return header


def _split_legacy(frame: bytes) -> tuple[bytes, list[bytes]]:
    length = len(frame)
    if length < 8:
        raise FrameError(f"the frame has {length} bytes; count and first offset take 8")
    (count,) = struct.unpack_from(">I", frame)
    if count < 1 or 4 * (count + 1) > length:
        raise FrameError(f"part count {count} does not fit a frame of {length} bytes")
    offsets = struct.unpack_from(f">{count}I", frame, 4)
    _check_offsets(offsets, least=4 * (count + 1), length=length)
    ends = (*offsets[1:], length)
    pieces = [frame[start:end] for start, end in zip(offsets, ends, strict=True)]
    return pieces[0], pieces[1:]


def _check_offsets(offsets: Sequence[int], *, least: int, length: int) -> None:
    before = least
    for offset in offsets:
        if offset < before or offset > length:
            raise FrameError(f"offset {offset} lies outside {before}..{length}")
        before = offset


def _utf8(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise FrameError(f"the {what} is not UTF-8") from None


def _clean(text: bytes) -> bytes:
    # A text frame with a wrong byte makes the browser drop the connection (RFC 6455 §8.1): better a
    # replacement character than a kernel whose latin-1 output locks its user out.
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode(errors="replace").encode()
    return text
