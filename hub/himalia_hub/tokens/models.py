"""The table of API tokens."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base
from himalia_hub.servers.models import Server
from himalia_hub.services.models import Service
from himalia_hub.users.models import User


class ApiToken(Base):
    """A token, stored as a hash; either `user_id` or `service_id` says whose it is.

    `server_id` marks a single-user server's own token; `incarnation` says which life of it. `client_id` is
    the OAuth client a token was issued to ("jupyterhub" for those a person asked for).
    """

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), index=True)
    service_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Service.id, ondelete="CASCADE"), index=True)
    server_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Server.id, ondelete="CASCADE"), index=True)
    incarnation: Mapped[str | None] = mapped_column(sa.String(64))
    client_id: Mapped[str] = mapped_column(sa.String(600), default="jupyterhub", index=True)
    session_id: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    hashed: Mapped[str] = mapped_column(sa.String(128), unique=True)
    scopes: Mapped[list[str]]
    note: Mapped[str] = mapped_column(sa.String(1023), default="")
    created: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    last_activity: Mapped[datetime | None]
    last_address: Mapped[str | None] = mapped_column(sa.String(64))
