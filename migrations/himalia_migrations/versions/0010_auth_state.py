"""What ways to sign in gave to keep, encrypted. The previous release neither writes nor reads it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0010", "0009"


def upgrade() -> None:
    op.add_column("external_identities", sa.Column("state", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("external_identities") as table:
        table.drop_column("state")
