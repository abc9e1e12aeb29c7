"""The tables of groups and of who is in them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class Group(Base):
    """A named set of people. `properties` is free JSON for clients.

    Its members may start `profiles`, by name, beside those that the configuration gives them.
    """

    __tablename__ = "groups"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(255), unique=True)
    properties: Mapped[dict[str, Any]] = mapped_column(default=dict)
    profiles: Mapped[list[str]] = mapped_column(default=list, server_default="[]")


class Membership(Base):
    """One person in one group; a `manager` may change who is in it."""

    __tablename__ = "user_group_map"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    group_id: Mapped[int] = mapped_column(
        sa.ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    manager: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    given_by: Mapped[str | None] = mapped_column(sa.String(300))
    """The realm that put the person in at their sign-in and takes them out again; None: somebody did by hand."""
