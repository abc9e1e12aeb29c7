"""How long a session was put off, and what it used. The previous release neither asks nor sets them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0019", "0018"


def upgrade() -> None:
    op.add_column("servers", sa.Column("extended_s", sa.Double(), nullable=True))
    for name in ("used_s", "memory_gib_s"):
        op.add_column("launches", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("launches") as table:
        table.drop_column("memory_gib_s")
        table.drop_column("used_s")
    with op.batch_alter_table("servers") as table:
        table.drop_column("extended_s")
