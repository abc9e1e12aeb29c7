"""Since when somebody is suspended. The previous release ignores it: it lets them sign in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0008", "0007"


def upgrade() -> None:
    op.add_column("users", sa.Column("suspended", sa.DateTime(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("users") as table:
        table.drop_column("suspended")
