"""What running servers use, now and in the last hour. The previous release reads neither."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0018", "0017"


def upgrade() -> None:
    for table, key in (("server_uses", ["server_id"]), ("server_use_minutes", ["server_id", "at"])):
        op.create_table(
            table,
            sa.Column("server_id", sa.Integer(), nullable=False),
            sa.Column("at", sa.DateTime(), nullable=False),
            sa.Column("memory", sa.BigInteger(), nullable=True),
            sa.Column("cpus", sa.Double(), nullable=True),
            sa.ForeignKeyConstraint(
                ["server_id"], ["servers.id"], name=f"fk_{table}_server_id_servers", ondelete="CASCADE"
            ),
            sa.PrimaryKeyConstraint(*key, name=f"pk_{table}"),
        )
    op.create_index("ix_server_use_minutes_at", "server_use_minutes", ["at"])


def downgrade() -> None:
    op.drop_table("server_use_minutes")
    op.drop_table("server_uses")
