"""Tokens whose hash another program made. The previous release sees rows of `api_tokens` that no token fits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    op.create_table(
        "imported_tokens",
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("hashed", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name="pk_imported_tokens"),
        sa.ForeignKeyConstraint(
            ["token_id"], ["api_tokens.id"], ondelete="CASCADE", name="fk_imported_tokens_token_id_api_tokens"
        ),
    )
    op.create_index("ix_imported_tokens_prefix", "imported_tokens", ["prefix"])


def downgrade() -> None:
    op.drop_table("imported_tokens")
