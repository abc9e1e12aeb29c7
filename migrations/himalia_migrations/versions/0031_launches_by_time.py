"""Find the links of the last hour without reading all. The previous release gains from it, too."""

from __future__ import annotations

from alembic import op

revision, down_revision = "0031", "0030"


def upgrade() -> None:
    op.create_index("ix_launches_created", "launches", ["created"])


def downgrade() -> None:
    op.drop_index("ix_launches_created", "launches")
