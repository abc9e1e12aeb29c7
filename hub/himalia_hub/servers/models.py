"""The tables of servers and of what happened to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base, Word
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User

UNDER_WAY = sa.text(
    "desired = 'running' AND (queued_at IS NULL) IS TRUE AND (phase != 'ready' OR generation > acted_generation)"
)
"""Starts that have their place. Who counts them says it in these words, so that both databases find the index, and
SQLite does not take that of `queued_at`, by which it would read all servers.
"""


class Server(Base):
    """One (user, name) pair: the wish, what was last recorded, and the queue it stands in.

    The queue is this table: `due_at` is when the row wants a step (None = at rest), the three `lease_`
    columns say who works on it. `queued_at` is since when a start waits for a place (`queue.py`). What a
    wish counts for in quotas is `memory_reserved` (bytes) and `cpus_reserved`. `generation`
    counts wishes, `acted_generation` the last one that was started; `incarnation` names the life that was last
    started. `doomed` rows vanish once stopped. Until `kept_alive_until`, this life does not end for not being used.
    """

    __tablename__ = "servers"
    __table_args__ = (
        sa.UniqueConstraint("user_id", "name"),
        # In PostgreSQL the migration makes it partial, too; saying so here would have every hub load that dialect.
        sa.Index("ix_servers_starting", "user_id", sqlite_where=UNDER_WAY),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(sa.String(255), default="")
    display_name: Mapped[str] = mapped_column(sa.String(255), default="")
    backend_name: Mapped[str] = mapped_column(sa.String(128), unique=True)
    user_options: Mapped[dict[str, Any]] = mapped_column(default=dict)

    desired: Mapped[Desired] = mapped_column(Word(Desired, Desired.STOPPED), default=Desired.STOPPED)
    generation: Mapped[int] = mapped_column(default=0)
    acted_generation: Mapped[int] = mapped_column(default=0)
    doomed: Mapped[bool] = mapped_column(default=False)

    phase: Mapped[Phase] = mapped_column(Word(Phase, Phase.FAILED), default=Phase.STOPPED)
    phase_since: Mapped[datetime]
    unknown_since: Mapped[datetime | None]
    incarnation: Mapped[str] = mapped_column(sa.String(64), default="")
    node: Mapped[str | None] = mapped_column(sa.String(255))
    url: Mapped[str] = mapped_column(sa.String(512), default="")
    started: Mapped[datetime | None]
    last_activity: Mapped[datetime | None]
    kept_alive_until: Mapped[datetime | None]
    failure: Mapped[dict[str, Any] | None]
    safe_mode: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """The present wish is for a start with a home of its own."""
    extended_s: Mapped[float | None] = mapped_column(sa.Double)
    """Of a throw-away session by how much its longest age was put off, in seconds; None for every other server."""

    due_at: Mapped[datetime | None] = mapped_column(index=True)
    queued_at: Mapped[datetime | None] = mapped_column(index=True)
    memory_reserved: Mapped[int | None] = mapped_column(sa.BigInteger)
    cpus_reserved: Mapped[float | None] = mapped_column(sa.Double)
    lease_owner: Mapped[str | None] = mapped_column(sa.String(128))
    lease_until: Mapped[datetime | None]
    lease_epoch: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)


class ServerEvent(Base):
    """A line of a server's story, for progress pages. `generation` groups one start or stop."""

    __tablename__ = "server_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    server_id: Mapped[int] = mapped_column(sa.ForeignKey("servers.id", ondelete="CASCADE"), index=True)
    generation: Mapped[int]
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(sa.String(16))
    progress: Mapped[int]
    message: Mapped[str] = mapped_column(sa.Text)
