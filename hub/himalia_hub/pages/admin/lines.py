"""A page of the list as the database's driver tells it: a line that is as it was need not be made into objects again.

Making a hundred objects takes SQLAlchemy longer than SQLite takes to find them, and after most commits one of them is
another than before.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from markupsafe import Markup
from sqlalchemy.engine import Dialect

from himalia_hub.db.base import Document, Forgiving
from himalia_hub.groups.names import GroupName
from himalia_hub.languages import spoken
from himalia_hub.pages.admin.drawing import drawn, words_of
from himalia_hub.pages.admin.listing import COLUMNS, Found, Line, Page
from himalia_hub.pages.admin.rows import May, Row, row
from himalia_hub.pages.cards import STALE
from himalia_hub.pages.kept import Lately
from himalia_hub.settings import HubSettings

KEPT = 1024
"""Lines, of 2 kB each with what was made of them."""


@dataclass(slots=True)
class Made:
    """What was made of a line: its row, which is another after `until`, and how it looks to whom."""

    row: Row
    until: datetime | None
    looks: dict[Hashable, tuple[tuple[str, ...], Markup]] = field(default_factory=dict)

    def html(self, may: May, columns: tuple[str, ...], settings: HubSettings, now: datetime) -> Markup:
        """The row as `drawing.drawn` gives it."""
        who, times = (may, columns, spoken().tag), words_of(self.row, now)
        kept = self.looks.get(who)
        if kept is None or kept[0] != times:
            kept = self.looks[who] = times, drawn(self.row, may, columns, settings)
        return kept[1]


_made = Lately[Made](KEPT)


def made_of(page: Page, settings: HubSettings, dialect: Dialect, now: datetime) -> list[Made]:
    """What the lines of a page are, which was read through this dialect."""
    return [_one(line, tuple(page.groups[line[0]]), settings, dialect, now) for line in page.lines]


def _one(line: Line, groups: tuple[str, ...], settings: HubSettings, dialect: Dialect, now: datetime) -> Made:
    key = line, groups, tuple(one.profiles for one in groups if isinstance(one, GroupName))
    kept = _made.get(settings, key)
    if kept is None or (kept.until is not None and now > kept.until):
        found = _found(line, groups, dialect)
        made = row(found, settings)
        kept = _made.keep(key, Made(made, _until(found, made)))
    return kept


def _until(found: Found, made: Row) -> datetime | None:
    """When a row is another by the clock alone: what was measured grows old, and kernels wait for so long only."""
    ends = [found.use.at + STALE] if found.use is not None else []
    if made.card.failure is not None and made.card.failure.kept_until is not None:
        ends.append(made.card.failure.kept_until)
    return min(ends, default=None)


def _found(line: Line, groups: tuple[str, ...], dialect: Dialect) -> Found:
    """The objects of a line, as a session would have made them, but of none."""
    made, at = list[Any](), 0
    for model, readers in zip(COLUMNS, _readers(dialect), strict=True):
        values = line[at : at + len(readers)]
        at += len(readers)
        read = {
            key: value if as_ours is None else as_ours(value)
            for (key, as_ours), value in zip(readers, values, strict=True)
        }
        made.append(None if values[0] is None else model(**read))
    user, server, use = made
    return Found(user, server, groups, use)


_Reader = Callable[[Any], Any] | None


@functools.lru_cache(maxsize=4)
def _readers(dialect: Dialect) -> list[list[tuple[str, _Reader]]]:
    """Of each column its name, and what reads its values."""
    return [[(one.key, _reader(one.type, dialect)) for one in columns] for columns in COLUMNS.values()]


def _reader(kind: sa.types.TypeEngine[Any], dialect: Dialect) -> _Reader:
    if isinstance(kind, Document):
        return functools.partial(_document, kind)
    if isinstance(kind, Forgiving | sa.Boolean):
        return kind.dialect_impl(dialect).result_processor(dialect, None)
    return None


def _document(kind: Document, text: str | None) -> Any:
    """A document that came as text; a damaged one is empty, as it is to everybody else."""
    try:
        found = None if text is None else json.loads(text)
        return None if found is None else kind.read(found)
    except (ValueError, TypeError):
        return kind.otherwise()
