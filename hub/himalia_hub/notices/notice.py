"""What is said to everybody just now, as pages and the API show it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from himalia_hub.clock import iso
from himalia_hub.languages import later

Level = Literal["info", "warning", "danger"]
LEVELS: dict[Level, str] = {
    "info": later("Note"),
    "warning": later("Warning"),
    "danger": later("Important"),
}
"""The levels, calm to grave, with the word that pages put before the text."""

LONGEST = 2000
"""Characters of a text."""

MAINTENANCE = 0
"""The id of the maintenance among announcements: rows begin at 1."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One announcement. `ends` None: until it is taken down."""

    id: int
    level: Level
    text: str
    starts: datetime
    ends: datetime | None
    author: str = ""

    def holds(self, now: datetime) -> bool:
        """Whether it is shown at this moment: from `starts` on, up to but without `ends`."""
        return self.starts <= now and not self.over(now)

    def over(self, now: datetime) -> bool:
        """Whether its time has passed."""
        return self.ends is not None and self.ends <= now

    @property
    def word(self) -> str:
        """Its level as people read it, in English; colour alone tells too few."""
        return later("Maintenance") if self.id == MAINTENANCE else LEVELS[self.level]

    def model(self) -> dict[str, Any]:
        """`id, level, text, starts, ends`, as everybody may know it."""
        return {
            "id": self.id, "level": self.level, "text": self.text,
            "starts": iso(self.starts), "ends": iso(self.ends),
        }  # fmt: skip
