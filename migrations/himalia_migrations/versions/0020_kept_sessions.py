"""Whose home a session's files go to, and as what. The previous release keeps none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0020", "0019"


def upgrade() -> None:
    with op.batch_alter_table("launches") as table:
        table.add_column(sa.Column("keep_for", sa.Integer(), nullable=True))
        # With defaults of the database's own, for the previous release adds rows without a word on them.
        table.add_column(sa.Column("kept_as", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("keep_problem", sa.Text(), nullable=False, server_default=""))
        table.create_foreign_key(
            "fk_launches_keep_for_users", "users", ["keep_for"], ["id"], ondelete="SET NULL"
        )


def downgrade() -> None:
    with op.batch_alter_table("launches") as table:
        table.drop_constraint("fk_launches_keep_for_users", type_="foreignkey")
        for name in ("keep_problem", "kept_as", "keep_for"):
            table.drop_column(name)
