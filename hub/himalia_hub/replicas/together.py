"""What one hub knows of itself as one of several."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Together:
    """`name` is that of its row and its leases; `heard` is set when another hub calls, `leaving` when this one ends.
    `cuts` is set when another hub has something to be cut.
    """

    name: str = ""
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: asyncio.Event = field(default_factory=asyncio.Event)
