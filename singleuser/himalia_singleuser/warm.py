"""What a server needs for its first requests, for a parent process that forks servers and so loads it only once.

Importing this module imports it all. Nothing of it may start a thread, open a descriptor or hold a secret.
The parent calls `prepare` before its first fork, and `rehearse` in a child that it forked ahead and that waits for its
person.
"""

from __future__ import annotations

import importlib

from himalia_singleuser import lean
from himalia_singleuser.rehearsal import prepare, rehearse

__all__ = ["MODULES", "prepare", "rehearse"]

MODULES = (
    "structlog",
    "uvloop",
    "himalia_singleuser.__main__",
    "himalia_singleuser.serve",
    "encodings.idna",
    "importlib.metadata",
)
"""In this order: `__main__` and what it calls, then what the first requests and the first report to the hub import,
and last what the first page does."""

lean.import_aiohttp()
for _name in MODULES:
    importlib.import_module(_name)
