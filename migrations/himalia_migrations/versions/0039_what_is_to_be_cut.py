"""Add what the proxies are to cut, written with what ended. The previous release neither writes nor reads it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0039", "0037"


def upgrade() -> None:
    op.create_table(
        "cuts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("what", sa.JSON(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cuts"),
    )


def downgrade() -> None:
    op.drop_table("cuts")
