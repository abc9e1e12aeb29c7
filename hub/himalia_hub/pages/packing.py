"""A page that is packed once and sent to many, though each answer carries a token of its own.

DEFLATE (RFC 1951) is a row of blocks, which may be packed or stored as they are. What is the same for all is packed
beforehand, each stretch by itself; between two stretches the token stands in a stored block. So it costs next to
nothing to put in, and the length of the whole tells nothing of it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

LEVEL = 4
"""Of gzip's: a millisecond for a list of fifty rows, which becomes a tenth."""

_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
_LAST_BLOCK = b"\x01\x00\x00\xff\xff"


@dataclass(frozen=True, slots=True)
class Packed:
    """A text with holes, its stretches in between as they are and packed."""

    plain: tuple[bytes, ...]
    packed: tuple[bytes, ...]

    @classmethod
    def of(cls, text: str, hole: str) -> Packed:
        """Pack a text. `hole` is a word that nobody can guess, so that nothing that people wrote is taken for one."""
        plain = tuple(part.encode() for part in text.split(hole))
        return cls(plain, tuple(map(_pack, plain)))

    @property
    def weight(self) -> int:
        """Bytes of memory, about."""
        return sum(map(len, self.plain)) + sum(map(len, self.packed))

    def filled(self, token: str) -> bytes:
        """The text with the token in its holes."""
        return token.encode().join(self.plain)

    def filled_and_packed(self, token: str) -> bytes:
        """The same as gzip (RFC 1952)."""
        whole, length = self.filled(token), len(token.encode())
        stored = struct.pack("<BHH", 0, length, length ^ 0xFFFF) + token.encode()
        end = struct.pack("<II", zlib.crc32(whole), len(whole) & 0xFFFFFFFF)
        return b"".join((_HEAD, stored.join(self.packed), _LAST_BLOCK, end))


def _pack(part: bytes) -> bytes:
    """Blocks that end at a whole byte and need nothing that came before them."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)
