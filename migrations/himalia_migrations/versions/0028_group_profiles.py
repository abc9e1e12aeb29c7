"""The profiles that a group's members may start beside the configuration's. The previous release ignores them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0028", "0027"


def upgrade() -> None:
    with op.batch_alter_table("groups") as table:
        table.add_column(sa.Column("profiles", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    with op.batch_alter_table("groups") as table:
        table.drop_column("profiles")
