"""Services, and tokens that belong to one instead of a person. The previous release knows neither of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    op.create_table(
        "services",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("url", sa.String(512), nullable=False),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.Column("display", sa.Boolean(), nullable=False),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("from_config", sa.Boolean(), nullable=False),
        sa.Column("oauth_client_id", sa.String(255), nullable=True),
        sa.Column("oauth_redirect_uri", sa.String(1023), nullable=False),
        sa.Column("oauth_client_allowed_scopes", sa.JSON(), nullable=False),
        sa.Column("oauth_no_confirm", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_services"),
        sa.UniqueConstraint("name", name="uq_services_name"),
        sa.UniqueConstraint("oauth_client_id", name="uq_services_oauth_client_id"),
    )
    with op.batch_alter_table("api_tokens") as table:
        table.alter_column("user_id", existing_type=sa.Integer(), nullable=True)
        table.add_column(sa.Column("service_id", sa.Integer(), nullable=True))
        table.create_index("ix_api_tokens_service_id", ["service_id"])
        table.create_foreign_key(
            "fk_api_tokens_service_id_services", "services", ["service_id"], ["id"], ondelete="CASCADE"
        )


def downgrade() -> None:
    op.execute("DELETE FROM api_tokens WHERE user_id IS NULL")
    with op.batch_alter_table("api_tokens") as table:
        table.drop_constraint("fk_api_tokens_service_id_services", type_="foreignkey")
        table.drop_index("ix_api_tokens_service_id")
        table.drop_column("service_id")
        table.alter_column("user_id", existing_type=sa.Integer(), nullable=False)
    op.drop_table("services")
