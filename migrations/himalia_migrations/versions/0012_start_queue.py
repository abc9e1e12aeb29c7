"""Since when a start waits for a place. The previous release does not start those: cancel them before going back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0012", "0011"


def upgrade() -> None:
    with op.batch_alter_table("servers") as table:
        table.add_column(sa.Column("queued_at", sa.DateTime(), nullable=True))
        table.create_index("ix_servers_queued_at", ["queued_at"])


def downgrade() -> None:
    with op.batch_alter_table("servers") as table:
        table.drop_index("ix_servers_queued_at")
        table.drop_column("queued_at")
