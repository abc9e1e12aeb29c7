"""The tables of who is who at other places, and of second steps."""

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
    state: Mapped[str | None] = mapped_column(sa.Text)
    """What the way gave to keep (JupyterHub's auth_state), encrypted."""


class SecondFactor(Base):
    """A person's secret for changing codes. Not in force before a first code was `confirmed`."""

    __tablename__ = "second_factors"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), primary_key=True)
    secret: Mapped[str] = mapped_column(sa.String(300))
    confirmed: Mapped[datetime | None]
    last_step: Mapped[int] = mapped_column(default=0)


class RecoveryCode(Base):
    """A code for who lost the device; deleted when used."""

    __tablename__ = "recovery_codes"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), index=True)
    hashed: Mapped[str] = mapped_column(sa.String(128))
