"""The tables of announcements and of maintenance."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class Announcement(Base):
    """A text that everybody sees from `starts` to `ends` (NULL: until it is taken down). `author` wrote it last."""

    __tablename__ = "announcements"

    id: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[str] = mapped_column(sa.String(16))
    text: Mapped[str] = mapped_column(sa.Text)
    starts: Mapped[datetime]
    ends: Mapped[datetime | None]
    author: Mapped[str] = mapped_column(sa.String(255))


class Maintenance(Base):
    """One row (id 1) while no server may be started; NULL in `ends` is until somebody ends it."""

    __tablename__ = "maintenance"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(sa.Text)
    since: Mapped[datetime]
    ends: Mapped[datetime | None]
    author: Mapped[str] = mapped_column(sa.String(255))
