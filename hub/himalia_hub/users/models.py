"""The tables of people and of their browser sign-ins."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class User(Base):
    """A person. `password_hash` is argon2, or None when they sign in another way."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(255), unique=True)
    admin: Mapped[bool] = mapped_column(default=False)
    password_hash: Mapped[str | None] = mapped_column(sa.String(255))
    kept_as: Mapped[str | None] = mapped_column(sa.String(255), unique=True)
    """The name that their files are kept under, where it is not `name`: users/homes.py."""
    created: Mapped[datetime]
    last_activity: Mapped[datetime | None]
    suspended: Mapped[datetime | None]
    """Since when nothing of theirs is let in."""
    display_name: Mapped[str | None] = mapped_column(sa.String(255))
    """How the place where they sign in calls them; a text to show, by which nobody is found."""
    guest: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    """Whether it is the account of a throw-away session, which ends with it and has no rights but there."""

    has_lost = False
    """No column: whether the sign-in that found this person took a group or a role from them."""


class Login(Base):
    """One browser sign-in. The cookie holds the secret, the row its hash; deleting the row signs out.

    `session_id` is what JupyterHub calls so: tokens issued through this sign-in carry it and die with it.
    """

    __tablename__ = "logins"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    session_id: Mapped[str] = mapped_column(sa.String(64), unique=True)
    hashed: Mapped[str] = mapped_column(sa.String(128), unique=True)
    created: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_seen: Mapped[datetime]
    user_agent: Mapped[str] = mapped_column(sa.String(255), default="")
    address: Mapped[str] = mapped_column(sa.String(64), default="", server_default="")


class Preference(Base):
    """What a person chose for how pages look to them, under a name such as `admin.columns`."""

    __tablename__ = "preferences"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(default=dict)


class SetupLink(Base):
    """The one-time link with which the first administrator makes an account."""

    __tablename__ = "setup_links"

    id: Mapped[int] = mapped_column(primary_key=True)
    hashed: Mapped[str] = mapped_column(sa.String(128), unique=True)
    created: Mapped[datetime]


class FailedLogin(Base):
    """Failed password attempts under one key (`user:ann` or `ip:10.0.0.7`), for the growing back-off."""

    __tablename__ = "failed_logins"

    key: Mapped[str] = mapped_column(sa.String(300), primary_key=True)
    count: Mapped[int] = mapped_column(default=0)
    last: Mapped[datetime]
