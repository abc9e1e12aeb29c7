"""Add when somebody was last known to wait for a launch, and where it was opened. The previous release ignores both."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0034", "0033"


def upgrade() -> None:
    with op.batch_alter_table("launches") as table:
        table.add_column(sa.Column("heard", sa.DateTime(), nullable=True))
        table.add_column(sa.Column("site", sa.String(300), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("launches") as table:
        table.drop_column("site")
        table.drop_column("heard")
