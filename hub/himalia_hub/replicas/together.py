"""What one hub knows of itself as one of several."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from himalia_hub.replicas.cuts import Cuts


@dataclass(slots=True)
class Together:
    """`name` is that of its row and its leases; `heard` is set when another hub calls, `leaving` when this one ends.
    `cuts` is how they tell each other of WebSockets to cut.
    """

    name: str = ""
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: Cuts | None = None
