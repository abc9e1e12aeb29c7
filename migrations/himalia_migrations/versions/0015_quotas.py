"""Quotas, what a server counts for in them, and use by day. The previous release knows none, and refuses nobody."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0015", "0014"


def upgrade() -> None:
    with op.batch_alter_table("servers") as table:
        table.add_column(sa.Column("memory_reserved", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("cpus_reserved", sa.Double(), nullable=True))
    op.create_table(
        "quotas",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("group_id", sa.Integer(), nullable=True),
        sa.Column("servers", sa.Integer(), nullable=True),
        sa.Column("memory", sa.BigInteger(), nullable=True),
        sa.Column("cpus", sa.Double(), nullable=True),
        sa.Column("server_hours", sa.Double(), nullable=True),
        sa.Column("memory_hours", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_quotas"),
        sa.UniqueConstraint("user_id", name="uq_quotas_user_id"),
        sa.UniqueConstraint("group_id", name="uq_quotas_group_id"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], ondelete="CASCADE", name="fk_quotas_user_id_users"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], ondelete="CASCADE", name="fk_quotas_group_id_groups"
        ),
    )
    op.create_table(
        "usage_days",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.DateTime(), nullable=False),
        sa.Column("server_s", sa.Double(), nullable=False),
        sa.Column("memory_gib_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "day", name="pk_usage_days"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], ondelete="CASCADE", name="fk_usage_days_user_id_users"
        ),
    )


def downgrade() -> None:
    op.drop_table("usage_days")
    op.drop_table("quotas")
    with op.batch_alter_table("servers") as table:
        table.drop_column("cpus_reserved")
        table.drop_column("memory_reserved")
