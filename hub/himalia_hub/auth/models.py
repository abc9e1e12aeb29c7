"""The table of who is who at other places."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base
from himalia_hub.users.models import User


class ExternalIdentity(Base):
    """A person as another place knows them: its realm and its unchanging subject, tied to an account here.

    Tied by row, not by name: a person renamed on either side stays the same one.
    """

    __tablename__ = "external_identities"
    __table_args__ = (sa.UniqueConstraint("realm", "subject", name="uq_external_identities_realm"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    realm: Mapped[str] = mapped_column(sa.String(300))
    subject: Mapped[str] = mapped_column(sa.String(255))
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), index=True)
    created: Mapped[datetime]
