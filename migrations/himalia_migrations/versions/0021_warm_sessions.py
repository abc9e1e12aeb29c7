"""Whose folder a session has that was warm before it was opened. The previous release keeps none warm."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0021", "0020"


def upgrade() -> None:
    # With a default of the database's own, for the previous release adds rows without a word on it.
    op.add_column("launches", sa.Column("home", sa.String(32), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("launches") as table:
        table.drop_column("home")
