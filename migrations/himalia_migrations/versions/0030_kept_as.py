"""Under which name a renamed person's files are kept. The previous release takes the name that they have now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0030", "0029"


def upgrade() -> None:
    with op.batch_alter_table("users") as table:
        table.add_column(sa.Column("kept_as", sa.String(255), nullable=True))
        table.create_unique_constraint("uq_users_kept_as", ["kept_as"])


def downgrade() -> None:
    with op.batch_alter_table("users") as table:
        table.drop_constraint("uq_users_kept_as", type_="unique")
        table.drop_column("kept_as")
