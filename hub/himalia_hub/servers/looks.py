"""When this hub last looked at its servers, and what it found that belongs to nobody: for the page of its health."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Looks:
    """None and empty until the first look. `found` are words such as `server` and `folder`, one each.

    `stray` are the routes that led to no server when some were last taken out of the proxy's table, at `cleared`. Of
    several hubs one compares routes: the others have no `routes`. `clock` is what the clock showed when it was last
    looked at, under `one_at_a_time` (`awake.py`).
    """

    rows: datetime | None = None
    orphans: datetime | None = None
    found: list[str] = field(default_factory=list)
    routes: datetime | None = None
    cleared: datetime | None = None
    stray: list[str] = field(default_factory=list)
    clock: datetime | None = None
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
