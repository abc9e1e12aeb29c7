"""What a server needs for its first requests, for a parent process that forks servers and so loads it only once.

Importing this module imports it all. Nothing of it may start a thread, open a descriptor or hold a secret.
The parent calls `rehearse` in a child that it forked ahead and that waits for its person.
"""

from __future__ import annotations

import importlib

from himalia_singleuser import lean
from himalia_singleuser.rehearsal import rehearse

__all__ = ["MODULES", "rehearse"]

MODULES = (
    "structlog",
    "uvloop",
    "himalia_singleuser.__main__",
    "himalia_singleuser.serve",
)
"""In this order: `__main__` and what it calls, then what the first requests import."""

lean.import_aiohttp()
for _name in MODULES:
    importlib.import_module(_name)
