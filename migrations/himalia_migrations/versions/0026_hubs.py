"""A row for each hub that runs on this database. The previous release has none, and is not waited for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0026", "0025"


def upgrade() -> None:
    op.create_table(
        "hubs",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("url", sa.String(1000), nullable=False),
        sa.Column("hub_id", sa.String(64), nullable=False),
        sa.Column("base_url", sa.String(1000), nullable=False),
        sa.Column("seen_until", sa.DateTime(), nullable=False),
        sa.Column("leaving", sa.Boolean(), nullable=False),
        sa.Column("reload_asked", sa.Integer(), nullable=False),
        sa.Column("reload_taken", sa.Integer(), nullable=False),
        sa.Column("reload_answer", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_hubs"),
    )


def downgrade() -> None:
    op.drop_table("hubs")
