"""The tables of what running servers use."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base
from himalia_hub.servers.models import Server


class ServerUse(Base):
    """What a server used when it was last measured: `memory` in bytes, `cpus` in CPUs (0.5 is half of one).

    Apart from the server's own row: measuring must never wait for a step of the reconciler, nor hold one up. NULL is
    unknown. Written when it has changed noticeably, and else once a minute.
    """

    __tablename__ = "server_uses"

    server_id: Mapped[int] = mapped_column(sa.ForeignKey(Server.id, ondelete="CASCADE"), primary_key=True)
    at: Mapped[datetime]
    memory: Mapped[int | None] = mapped_column(sa.BigInteger)
    cpus: Mapped[float | None] = mapped_column(sa.Double)


class ServerUseMinute(Base):
    """A point of the last hour: memory at that moment, CPUs on average since the point before."""

    __tablename__ = "server_use_minutes"

    server_id: Mapped[int] = mapped_column(sa.ForeignKey(Server.id, ondelete="CASCADE"), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    memory: Mapped[int | None] = mapped_column(sa.BigInteger)
    cpus: Mapped[float | None] = mapped_column(sa.Double)
