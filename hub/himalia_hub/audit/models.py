"""The table of what was done."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class AuditRow(Base):
    """One request that changed something, or a visit. Names are texts: a row outlives whom it speaks of.

    `actor` is a person, or the OAuth client that acted `on_behalf_of` one. `target_user` is whose thing it was,
    `target` which: a server, a group, a token. `change` is `{"before": …, "after": …}` where the handler told.
    """

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(sa.String(16))
    action: Mapped[str] = mapped_column(sa.String(255))
    actor: Mapped[str] = mapped_column(sa.String(600), index=True)
    on_behalf_of: Mapped[str] = mapped_column(sa.String(255))
    token_id: Mapped[int | None]
    address: Mapped[str] = mapped_column(sa.String(64))
    target_user: Mapped[str] = mapped_column(sa.String(255), index=True)
    target: Mapped[str] = mapped_column(sa.String(255))
    status: Mapped[int]
    change: Mapped[dict[str, Any] | None]
    request_id: Mapped[str] = mapped_column(sa.String(32))
