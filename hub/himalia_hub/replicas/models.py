"""A row for each hub that runs on this database, and for each thing that they are to have cut."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class Replica(Base):
    """One hub. It is there until `seen_until`, which it puts off again and again; one that ends deletes its row.

    `reload_asked` counts how often it was asked to read its configuration, `reload_taken` how far it has come, and
    `reload_answer` is what it said at the last: `changed` and `needs_restart`, or `refused`.
    """

    __tablename__ = "hubs"

    name: Mapped[str] = mapped_column(sa.String(128), primary_key=True)
    url: Mapped[str] = mapped_column(sa.String(1000))
    hub_id: Mapped[str] = mapped_column(sa.String(64))
    base_url: Mapped[str] = mapped_column(sa.String(1000))
    seen_until: Mapped[datetime]
    leaving: Mapped[bool] = mapped_column(default=False)
    reload_asked: Mapped[int] = mapped_column(default=0)
    reload_taken: Mapped[int] = mapped_column(default=0)
    reload_answer: Mapped[dict[str, Any] | None]


class CutRow(Base):
    """Whose WebSockets are to be cut (`what`: see `auth/cutting.py`), written with what ended.

    `done` once the first proxy has done it; proxies that follow a hub are told by that. Numbers are never given twice,
    for hubs go by them: the last row stays.
    """

    __tablename__ = "cuts"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    what: Mapped[dict[str, Any]]
    done: Mapped[bool] = mapped_column(default=False)
