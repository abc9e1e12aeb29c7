"""The tables of shares and of share codes."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base
from himalia_hub.groups.models import Group
from himalia_hub.servers.models import Server
from himalia_hub.users.models import User


class Share(Base):
    """What a person, or each member of a group, may do with one server; for good, or until `expires_at`.

    Server, person and group are tied by row and `scopes` carry no filter: a share follows them when they are renamed,
    ends with them, and never becomes that of the next holder of a name.
    """

    __tablename__ = "shares"
    __table_args__ = (
        sa.UniqueConstraint("server_id", "user_id"),
        sa.UniqueConstraint("group_id", "server_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    server_id: Mapped[int] = mapped_column(sa.ForeignKey(Server.id, ondelete="CASCADE"))
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), index=True)
    group_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Group.id, ondelete="CASCADE"))
    scopes: Mapped[list[str]]
    created: Mapped[datetime]
    expires_at: Mapped[datetime | None]


class ShareCode(Base):
    """A code, kept as a hash, for which whoever is signed in and has it gets a share, until it expires."""

    __tablename__ = "share_codes"

    id: Mapped[int] = mapped_column(primary_key=True)
    server_id: Mapped[int] = mapped_column(sa.ForeignKey(Server.id, ondelete="CASCADE"), index=True)
    hashed: Mapped[str] = mapped_column(sa.String(128), unique=True)
    scopes: Mapped[list[str]]
    created: Mapped[datetime]
    expires_at: Mapped[datetime]
    exchange_count: Mapped[int] = mapped_column(default=0)
    last_exchanged: Mapped[datetime | None]
