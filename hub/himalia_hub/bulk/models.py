"""The tables of what was asked for many servers at once."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base


class BulkJob(Base):
    """One request: `action` is start, stop or remove. It belongs to who asked, and goes with them."""

    __tablename__ = "bulk_jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    action: Mapped[str] = mapped_column(sa.String(16))
    created: Mapped[datetime] = mapped_column(index=True)


class BulkItem(Base):
    """One server of a job, by name: it may be gone meanwhile, or not be there yet.

    `asked` is when its wish was written; `server_id` and `generation` say which. `problem` says why there is none.
    """

    __tablename__ = "bulk_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("bulk_jobs.id", ondelete="CASCADE"), index=True)
    username: Mapped[str] = mapped_column(sa.String(255))
    server_name: Mapped[str] = mapped_column(sa.String(255))
    asked: Mapped[datetime | None]
    server_id: Mapped[int | None]
    generation: Mapped[int | None]
    problem: Mapped[str] = mapped_column(sa.Text, default="")
