"""Shares of servers, and codes for them. The previous release knows neither, and lets in nobody by them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0011", "0010"


def upgrade() -> None:
    op.create_table(
        "shares",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("server_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("group_id", sa.Integer(), nullable=True),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
        sa.UniqueConstraint("server_id", "user_id", name="uq_shares_server_id"),
        sa.UniqueConstraint("group_id", "server_id", name="uq_shares_group_id"),
        *(
            sa.ForeignKeyConstraint(
                [column], [f"{table}.id"], ondelete="CASCADE", name=f"fk_shares_{column}_{table}"
            )
            for column, table in (("server_id", "servers"), ("user_id", "users"), ("group_id", "groups"))
        ),
    )
    op.create_index("ix_shares_user_id", "shares", ["user_id"])
    op.create_table(
        "share_codes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("server_id", sa.Integer(), nullable=False),
        sa.Column("hashed", sa.String(128), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("exchange_count", sa.Integer(), nullable=False),
        sa.Column("last_exchanged", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_share_codes"),
        sa.UniqueConstraint("hashed", name="uq_share_codes_hashed"),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], ondelete="CASCADE", name="fk_share_codes_server_id_servers"
        ),
    )
    op.create_index("ix_share_codes_server_id", "share_codes", ["server_id"])


def downgrade() -> None:
    op.drop_table("share_codes")
    op.drop_table("shares")
