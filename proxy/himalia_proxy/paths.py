"""Request paths, brought once into the form that is both looked up and forwarded: pure.

Looking up one form and forwarding another is how `//a/b` reaches the wrong person's server.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

_DOTS = {b".": 1, b"%2e": 1, b"..": 2, b".%2e": 2, b"%2e.": 2, b"%2e%2e": 2}


def normal(path: bytes) -> bytes:
    """The path without dot segments, in whatever spelling; everything else stays as it came."""
    if b"/." not in path and b"/%2" not in path:
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        dots = _DOTS.get(segment.lower(), 0)
        if dots == 2 and kept:
            kept.pop()
        elif not dots:
            kept.append(segment)
    if segments[-1].lower() in _DOTS:
        kept.append(b"")
    return b"/" + b"/".join(kept)


def readable(path: bytes) -> str:
    """The percent-decoded path as routes spell it. ValueError for an escape that is none.

    Bytes that are not UTF-8 become lone surrogates, which no route can contain.
    """
    if b"%" not in path:
        return path.decode("ascii", "surrogateescape")
    for piece in path.split(b"%")[1:]:
        if len(piece) < 2 or not _is_hex(piece[:2]):
            raise ValueError("a percent sign must be followed by two hexadecimal digits")
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


def _is_hex(two: bytes) -> bool:
    return all(byte in b"0123456789abcdefABCDEF" for byte in two)


def without_prefix(path: bytes, prefix: str) -> bytes:
    """The path behind a decoded prefix it begins with, however the path spells that prefix."""
    wanted = len(prefix.encode("utf-8", "surrogateescape"))
    at = 0
    while wanted:
        at += 3 if path[at : at + 1] == b"%" else 1
        wanted -= 1
    rest = path[at:]
    if rest[:3].lower() == b"%2f":
        rest = b"/" + rest[3:]
    return rest if rest.startswith(b"/") else b"/" + rest
