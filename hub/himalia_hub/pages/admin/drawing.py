"""A row of the list as HTML: drawn once for all pages and streams on which it looks the same."""

from __future__ import annotations

import functools
from datetime import datetime

from markupsafe import Markup

from himalia_hub import clock
from himalia_hub.languages import spoken
from himalia_hub.pages.admin.rows import May, Row
from himalia_hub.pages.render import environment_of
from himalia_hub.settings import HubSettings

KEPT = 512
"""Rows, of 2 kB each."""
OLD_S = 10
"""A kept row's "3 min ago" is at most so much behind; our script writes it anew every now and then anyway."""


def drawn(row: Row, may: May, columns: tuple[str, ...], settings: HubSettings) -> Markup:
    """The row for those who may do this with it, with these columns, in this request's language."""
    now = clock.now()
    card = row.card
    timeless = not (card.since or card.started or card.ending or card.failure or row.last)
    until = 0 if timeless else int(now.timestamp()) // OLD_S
    return _drawn(row, may, columns, spoken().tag, until, _Now(settings, now))


class _Now:
    """What a drawn row is made with and does not depend on, as far as `_drawn` goes."""

    def __init__(self, settings: HubSettings, now: datetime) -> None:
        self.settings, self.now = settings, now
        self.key = settings.hub_prefix, tuple(settings.pages.template_paths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Now) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@functools.lru_cache(maxsize=KEPT)
def _drawn(row: Row, may: May, columns: tuple[str, ...], _language: str, _until: int, at: _Now) -> Markup:
    template = environment_of(at.settings).get_template("row.html")
    hub = at.settings.hub_prefix
    html = template.render(row=row, may=may, columns=columns, now=at.now, hub=hub)
    return Markup(html)  # noqa: S704 -- the template escaped it
