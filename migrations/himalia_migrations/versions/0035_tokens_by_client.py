"""End the tokens of a stopped server's visitors without reading all tokens. The previous release gains by it, too."""

from __future__ import annotations

from alembic import op

revision, down_revision = "0035", "0034"


def upgrade() -> None:
    op.create_index("ix_api_tokens_client_id", "api_tokens", ["client_id"])


def downgrade() -> None:
    op.drop_index("ix_api_tokens_client_id", "api_tokens")
