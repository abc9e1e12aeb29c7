"""Count the starts under way without reading all servers. The previous release neither gains nor loses by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0033", "0032"

UNDER_WAY = (
    "desired = 'running' AND (queued_at IS NULL) IS TRUE"
    " AND (phase != 'ready' OR generation > acted_generation)"
)


def upgrade() -> None:
    where = sa.text(UNDER_WAY)
    op.create_index("ix_servers_starting", "servers", ["user_id"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_servers_starting", "servers")
