"""Share codes whose hash another program made. The previous release sees rows of `share_codes` that no code fits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0027", "0026"


def upgrade() -> None:
    op.create_table(
        "imported_share_codes",
        sa.Column("code_id", sa.Integer(), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("hashed", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("code_id", name="pk_imported_share_codes"),
        sa.ForeignKeyConstraint(
            ["code_id"],
            ["share_codes.id"],
            ondelete="CASCADE",
            name="fk_imported_share_codes_code_id_share_codes",
        ),
    )
    op.create_index("ix_imported_share_codes_prefix", "imported_share_codes", ["prefix"])


def downgrade() -> None:
    op.drop_table("imported_share_codes")
