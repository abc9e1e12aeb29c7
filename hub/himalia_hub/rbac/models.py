"""The tables of roles made over the API, and of who has one."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class Role(Base):
    """A named list of raw scopes. Those of the configuration are no rows."""

    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(255), unique=True)
    description: Mapped[str] = mapped_column(sa.String(1023), default="")
    scopes: Mapped[list[str]]


class RoleAssignment(Base):
    """A person, a service or all members of a group have a role; until `expires_at`, if that is set."""

    __tablename__ = "role_assignments"

    id: Mapped[int] = mapped_column(primary_key=True)
    role_id: Mapped[int] = mapped_column(sa.ForeignKey("roles.id", ondelete="CASCADE"))
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    service_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("services.id", ondelete="CASCADE"), index=True
    )
    group_id: Mapped[int | None] = mapped_column(sa.ForeignKey("groups.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime | None]


class RoleFromSignIn(Base):
    """A person has a role, of rows or of the configuration, because the place where they sign in said so last.

    By name, as the configuration says it (`auth.methods.NAME.roles`). `admin` also says that this is why
    `users.admin` is set.
    """

    __tablename__ = "sign_in_roles"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    realm: Mapped[str] = mapped_column(sa.String(300), primary_key=True)
    role: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
