"""The tables of links that were opened, their story, and the environments made for them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base, Word


class Stage(StrEnum):
    """How far an opened link is. The order is that of a life without trouble."""

    RESOLVING = "resolving"
    FETCHING = "fetching"
    WAITING = "waiting"
    BUILDING = "building"
    LAUNCHING = "launching"
    WARM = "warm"
    READY = "ready"
    KEEPING = "keeping"
    ENDING = "ending"
    ENDED = "ended"
    FAILED = "failed"


OVER = (Stage.ENDED, Stage.FAILED)
"""Nothing is left of these but their row."""


BUILD_ONLY = "/"
"""In the place of what a session opens on, which never begins with a slash: there is to be none."""
MADE = "its environment is there"
"""Why a launch without a session ended well."""
NOBODY = "nobody waited"
"""Why a launch lost its place in the queue."""


class Launch(Base):
    """One opened link, from the click to the end of its session, or of the build that alone was asked for.

    `key` names it in addresses. `visitor` is `user:ID` or `net:ADDRESS`. `seated` is the reservation: it is given and
    taken in one transaction that counts. `uid` is the account of the session's processes, never shared by two.
    `guest_id` and `server_id` are the session; its files go to the person `keep_for`, and are `kept_as` a folder in
    their home, or not, by `keep_problem`. `failure` holds `message` and `remedy`. `used_s` and `memory_gib_s` are what
    the session used, once it is over: its guest's own days in `usage_days` go with the guest.
    """

    __tablename__ = "launches"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(32), unique=True)
    provider: Mapped[str] = mapped_column(sa.String(16))
    spec: Mapped[str] = mapped_column(sa.Text)
    stem: Mapped[str] = mapped_column(sa.Text)
    url: Mapped[str] = mapped_column(sa.Text)
    label: Mapped[str] = mapped_column(sa.Text)
    ref: Mapped[str] = mapped_column(sa.String(255))
    commit: Mapped[str] = mapped_column(sa.String(64), default="")
    opening: Mapped[str] = mapped_column(sa.Text, default="")
    visitor: Mapped[str] = mapped_column(sa.String(300), index=True)
    created: Mapped[datetime] = mapped_column(index=True)

    stage: Mapped[Stage] = mapped_column(Word(Stage, Stage.ENDING), default=Stage.RESOLVING, index=True)
    stage_since: Mapped[datetime]
    seated: Mapped[bool] = mapped_column(default=False)
    environment: Mapped[str] = mapped_column(sa.String(64), default="")
    uid: Mapped[int | None] = mapped_column(unique=True)
    guest: Mapped[str] = mapped_column(sa.String(255), default="")
    guest_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id", ondelete="SET NULL"), index=True)
    server_id: Mapped[int | None] = mapped_column(sa.ForeignKey("servers.id", ondelete="SET NULL"))
    failure: Mapped[dict[str, Any] | None]
    ended_because: Mapped[str] = mapped_column(sa.Text, default="")
    keep_for: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id", ondelete="SET NULL"))
    heard: Mapped[datetime | None]
    """When somebody was last known to wait for it; None: not since `created`. Written now and then only."""
    site: Mapped[str] = mapped_column(sa.String(300), default="", server_default="")
    """Scheme and host by which it was opened; empty where that is not known, as of a session that is warm."""
    home: Mapped[str] = mapped_column(sa.String(32), default="", server_default="")
    """Name of its folder; empty: its key. Another's for a session that was warm before it was this one."""
    kept_as: Mapped[str] = mapped_column(sa.Text, default="", server_default="")
    keep_problem: Mapped[str] = mapped_column(sa.Text, default="", server_default="")
    used_s: Mapped[float | None] = mapped_column(sa.Double)
    memory_gib_s: Mapped[float | None] = mapped_column(sa.Double)

    @property
    def build_only(self) -> bool:
        """Whether it is to end once its environment is made. It takes no place, for there is no session."""
        return self.opening == BUILD_ONLY


class LaunchEvent(Base):
    """A line of a launch's story. `phase` is BinderHub's word."""

    __tablename__ = "launch_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    launch_id: Mapped[int] = mapped_column(sa.ForeignKey("launches.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    phase: Mapped[str] = mapped_column(sa.String(16))
    message: Mapped[str] = mapped_column(sa.Text)


class Environment(Base):
    """A kernel's environment, named by what it is made from. `ready` None: being made; `failure` as in Launch.

    `bytes` is its size, once that is known. `unwanted`: it goes as soon as no session has it.
    """

    __tablename__ = "environments"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    files: Mapped[list[str]]
    created: Mapped[datetime]
    ready: Mapped[datetime | None]
    last_used: Mapped[datetime]
    failure: Mapped[dict[str, Any] | None]
    bytes: Mapped[int | None] = mapped_column(sa.BigInteger)
    unwanted: Mapped[bool] = mapped_column(default=False)


class BuildLine(Base):
    """A line that the installer said while it made an environment."""

    __tablename__ = "build_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(
        sa.ForeignKey("environments.key", ondelete="CASCADE"), index=True
    )
    text: Mapped[str] = mapped_column(sa.Text)


class LinkBan(Base):
    """A repository that no link opens. `address` is equal for every way to name it; `why` is shown to people."""

    __tablename__ = "link_bans"

    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(sa.String(1000), unique=True)
    label: Mapped[str] = mapped_column(sa.Text)
    why: Mapped[str] = mapped_column(sa.Text)
    author: Mapped[str] = mapped_column(sa.String(255))
    created: Mapped[datetime]


class WarmLimit(Base):
    """How many sessions of a link an administrator wants warm; provider and spec empty: of all links together.

    `link` is unique, and made of both. None: no such bound.
    """

    __tablename__ = "warm_limits"

    id: Mapped[int] = mapped_column(primary_key=True)
    link: Mapped[str] = mapped_column(sa.String(64), unique=True)
    provider: Mapped[str] = mapped_column(sa.String(16))
    spec: Mapped[str] = mapped_column(sa.Text)
    least: Mapped[int | None]
    most: Mapped[int | None]
    author: Mapped[str] = mapped_column(sa.String(255))
    created: Mapped[datetime]
