"""The table of services."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class Service(Base):
    """A program that asks the API in its own name, or that people reach below `services/NAME/`.

    `url` is where the proxy finds it, empty for one that serves nobody. Those of the configuration are written
    anew at each start (`from_config`); a managed one also has its `command`, and the `pid` of its present process.
    `oauth_client_id` is None where nobody signs in to it.
    """

    __tablename__ = "services"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(255), unique=True)
    admin: Mapped[bool] = mapped_column(default=False)
    url: Mapped[str] = mapped_column(sa.String(512), default="")
    info: Mapped[dict[str, Any]] = mapped_column(default=dict)
    display: Mapped[bool] = mapped_column(default=True)
    command: Mapped[list[str]] = mapped_column(default=list)
    pid: Mapped[int] = mapped_column(default=0)
    from_config: Mapped[bool] = mapped_column(default=False)
    oauth_client_id: Mapped[str | None] = mapped_column(sa.String(255), unique=True)
    oauth_redirect_uri: Mapped[str] = mapped_column(sa.String(1023), default="")
    oauth_client_allowed_scopes: Mapped[list[str]] = mapped_column(default=list)
    oauth_no_confirm: Mapped[bool] = mapped_column(default=False)
