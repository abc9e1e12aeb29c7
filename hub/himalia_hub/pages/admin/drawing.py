"""A row of the list as HTML: drawn once for all pages and streams on which it looks the same."""

from __future__ import annotations

import functools
from datetime import datetime

from markupsafe import Markup

from himalia_hub import clock
from himalia_hub.languages import spoken
from himalia_hub.pages import words
from himalia_hub.pages.admin.rows import May, Row
from himalia_hub.pages.render import environment_of
from himalia_hub.settings import HubSettings

KEPT = 1024
"""Rows, of 2 kB each."""


def drawn(row: Row, may: May, columns: tuple[str, ...], settings: HubSettings) -> Markup:
    """The row for those who may do this with it, with these columns, in this request's language."""
    at = _Now(settings, clock.now())
    return _drawn(row, may, columns, spoken().tag, words_of(row, at.now), at)


def words_of(row: Row, now: datetime) -> tuple[str, ...]:
    """What the clock alone changes in a row: its words for how long ago."""
    card = row.card
    said = [words.ago(then, now) for then in (card.since, row.last) if then is not None]
    if card.started is not None:
        said.append(words.span(card.started, now))
    return tuple(said)


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
def _drawn(
    row: Row, may: May, columns: tuple[str, ...], _language: str, _times: tuple[str, ...], at: _Now
) -> Markup:
    template = environment_of(at.settings).get_template("row.html")
    hub = at.settings.hub_prefix
    html = template.render(row=row, may=may, columns=columns, now=at.now, hub=hub)
    return Markup(html)  # noqa: S704 -- the template escaped it
