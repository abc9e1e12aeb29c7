"""What administrators do about links: bans, and environments that are to go. The previous release heeds neither."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0025", "0024"


def upgrade() -> None:
    op.create_table(
        "link_bans",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(1000), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_link_bans"),
        sa.UniqueConstraint("address", name="uq_link_bans_address"),
    )
    with op.batch_alter_table("environments") as table:
        table.add_column(sa.Column("bytes", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("unwanted", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("environments") as table:
        table.drop_column("unwanted")
        table.drop_column("bytes")
    op.drop_table("link_bans")
