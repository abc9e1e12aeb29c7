"""When this hub last looked at its servers, and what it found that belongs to nobody: for the page of its health."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Looks:
    """None and empty until the first look. `orphans` are words such as `server` and `folder`, one each."""

    rows: datetime | None = None
    orphans: datetime | None = None
    found: list[str] = field(default_factory=list)
