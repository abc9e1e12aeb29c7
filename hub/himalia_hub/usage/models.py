"""The tables of quotas and of what was used."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base
from himalia_hub.groups.models import Group
from himalia_hub.users.models import User


class Quota(Base):
    """Limits that the API set for one person, or for a group together.

    NULL is not said, 0 is no limit; memory is in bytes.
    """

    __tablename__ = "quotas"
    __table_args__ = (sa.UniqueConstraint("user_id"), sa.UniqueConstraint("group_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"))
    group_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Group.id, ondelete="CASCADE"))
    servers: Mapped[int | None]
    memory: Mapped[int | None] = mapped_column(sa.BigInteger)
    cpus: Mapped[float | None] = mapped_column(sa.Double)
    server_hours: Mapped[float | None] = mapped_column(sa.Double)
    memory_hours: Mapped[float | None] = mapped_column(sa.Double)


class UsageDay(Base):
    """What ended servers of one person used on one day (its midnight, UTC), in seconds and GiB-seconds."""

    __tablename__ = "usage_days"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), primary_key=True)
    day: Mapped[datetime] = mapped_column(primary_key=True)
    server_s: Mapped[float] = mapped_column(sa.Double)
    memory_gib_s: Mapped[float] = mapped_column(sa.Double)
