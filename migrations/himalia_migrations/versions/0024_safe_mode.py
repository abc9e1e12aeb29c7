"""Whether a start shall have a home of its own. The previous release starts it with the person's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0024", "0023"


def upgrade() -> None:
    op.add_column("servers", sa.Column("safe_mode", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("servers") as table:
        table.drop_column("safe_mode")
