"""What keeps this process small: it idles most of its life, and there are many of them."""

from __future__ import annotations

import sys
from contextlib import suppress

M_TRIM_THRESHOLD = -1
M_ARENA_MAX = -8
"""Numbers of mallopt(3)."""
TRIM_BYTES = 64 * 1024

_is_small = False


def import_aiohttp() -> None:
    """Import aiohttp without two things that are not needed here; before anything else does.

    structlog imports rich wherever it is installed, for tracebacks that nobody wants to see in JSON: 9 MB. aiohttp
    reads the system's certificates when it is imported: 2 MB and a tenth of the start, for connections that a server
    makes only to a hub with https (`app.hub_connector` has a context of its own for that one; aiohttp's knows no
    authority and so refuses all).
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    import ssl

    names = ("load_default_certs", "set_default_verify_paths")
    kept = {name: getattr(ssl.SSLContext, name) for name in names}
    for name in names:
        setattr(ssl.SSLContext, name, lambda *_: None)
    try:
        import aiohttp.connector  # noqa: F401
    finally:
        for name in names:
            setattr(ssl.SSLContext, name, kept[name])


def stay_small() -> None:
    """One heap for all threads, trimmed when it can be. Nothing on C libraries that know no such thing.

    glibc gives each thread a heap of its own and keeps what was freed; one page of JupyterLab then leaves 6 MB behind.
    Set in the process and not in its environment, which kernels inherit: their threads should have all heaps they want.
    Forked children have it from their parent.
    """
    global _is_small
    if _is_small:
        return
    _is_small = True
    import ctypes

    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(M_ARENA_MAX, 1)
        library.mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
