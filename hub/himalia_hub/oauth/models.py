"""The table of one-time authorization codes."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base
from himalia_hub.users.models import User


class OAuthCode(Base):
    """An authorization code, stored as a hash, good once and for a few minutes (RFC 6749 §4.1.2)."""

    __tablename__ = "oauth_codes"

    id: Mapped[int] = mapped_column(primary_key=True)
    hashed: Mapped[str] = mapped_column(sa.String(128), unique=True)
    client_id: Mapped[str] = mapped_column(sa.String(600))
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"))
    session_id: Mapped[str | None] = mapped_column(sa.String(64))
    redirect_uri: Mapped[str] = mapped_column(sa.String(1023))
    scopes: Mapped[list[str]]
    code_challenge: Mapped[str | None] = mapped_column(sa.String(255))
    code_challenge_method: Mapped[str | None] = mapped_column(sa.String(16))
    expires_at: Mapped[datetime]
