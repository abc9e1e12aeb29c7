"""What keeps a hub's process small. The settings of the heap stand before the first thread is made."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mimetypes
import ssl
import sys
from collections.abc import Iterator
from typing import Any

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
"""Numbers of mallopt(3)."""
TRIM_BYTES = 512 * 1024
MMAP_BYTES = 128 * 1024
GIVE_BACK_S = 10.0
GIVE_BACK_BYTES = 1024 * 1024


class LazyContext(ssl.SSLContext):
    """A context for clients that reads the system's certificates when the first connection is made with it."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As its base, with the certificates."""
        self._read_certificates()
        return super().wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As its base, with the certificates."""
        self._read_certificates()
        return super().wrap_socket(*args, **kwargs)

    def _read_certificates(self) -> None:
        if "has_certificates" not in self.__dict__:
            self.has_certificates = True
            self.load_default_certs()


def import_aiohttp() -> None:
    """Import aiohttp, whose own context for clients then reads the system's certificates when it is first used: 2 MB
    and a thirtieth of a second, for connections to https that many hubs never make. Its other context verifies
    nothing and never needs them (1 MB more). Of types by a file's name, Python's own do: the system's are 0.3 MB.
    """
    mimetypes.knownfiles.clear()
    kept = ssl.SSLContext.load_default_certs
    ssl.SSLContext.load_default_certs = lambda *_: None  # type: ignore[method-assign]
    ssl.SSLContext.set_default_verify_paths = lambda *_: None  # type: ignore[method-assign]
    try:
        from aiohttp import connector
    finally:
        ssl.SSLContext.load_default_certs = kept  # type: ignore[method-assign]
        del ssl.SSLContext.set_default_verify_paths  # its base's shows again
    connector._SSL_CONTEXT_VERIFIED.__class__ = LazyContext


def stay_small() -> None:
    """One heap for all threads. glibc gives each a heap of its own and keeps what was freed there: 2 MB at rest, 5 MB
    after a crowd. Nothing on C libraries that know no such thing.
    """
    set_option = getattr(_library(), "mallopt", None)
    if set_option is not None:
        set_option(M_ARENA_MAX, 1)
        set_option(M_TRIM_THRESHOLD, TRIM_BYTES)
        set_option(M_MMAP_THRESHOLD, MMAP_BYTES)


def settle() -> None:
    """What is there now stays, and takes no more room than it needs; 0.8 MB. The collector looks at it no more: all of
    some 100,000 objects, every few hundred requests, held everybody up for 60 to 200 ms.

    Imports have listed folders in which nothing is looked for any more. A column's attributes, of which there are two
    dozen, came one by one, and its table grew to twice what they need.
    """
    from sqlalchemy import Column  # this module comes before it, to make the heap small for it

    sys.path_importer_cache.clear()
    columns = set(_kinds(Column))
    for each in [one for one in gc.get_objects() if type(one) in columns]:
        each.__dict__ = {**each.__dict__}
    gc.freeze()
    # What a crowd has under way lives no longer than its requests: the collector's looks at all of it, every
    # 700 objects and at everything since the start every 70,000, found nothing, and took 3 % of the processor.
    gc.set_threshold(2_000, 20, 50)


def _kinds(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for each in base.__subclasses__():
        yield from _kinds(each)


async def give_back() -> None:
    """Give free pages within the heap back, as long as the hub runs: those of a crowd that has gone.

    It takes 2 ms, in which who wants memory waits; so only where a megabyte or more is free.
    """
    library = _library()
    if not hasattr(library, "malloc_trim") or not hasattr(library, "mallinfo2"):
        return
    library.mallinfo2.restype = _Heap
    while True:
        await asyncio.sleep(GIVE_BACK_S)
        if library.mallinfo2().free > GIVE_BACK_BYTES:
            await asyncio.to_thread(library.malloc_trim, 0)


class _Heap(ctypes.Structure):
    """What mallinfo2(3) tells of the heap; `free`: bytes in free blocks."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "blocks", "small", "maps", "mapped", "_", "small_free", "used", "free", "keep")
    ]


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
