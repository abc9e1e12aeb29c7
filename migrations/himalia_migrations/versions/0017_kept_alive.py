"""Until when a server stays although nobody uses it. The previous release does not look at it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0017", "0016"


def upgrade() -> None:
    with op.batch_alter_table("servers") as table:
        table.add_column(sa.Column("kept_alive_until", sa.DateTime(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("servers") as table:
        table.drop_column("kept_alive_until")
