"""How many sessions administrators want warm, for a link or in all. The previous release ignores it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0029", "0028"


def upgrade() -> None:
    op.create_table(
        "warm_limits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("link", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(16), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("least", sa.Integer(), nullable=True),
        sa.Column("most", sa.Integer(), nullable=True),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_warm_limits"),
        sa.UniqueConstraint("link", name="uq_warm_limits_link"),
    )


def downgrade() -> None:
    op.drop_table("warm_limits")
