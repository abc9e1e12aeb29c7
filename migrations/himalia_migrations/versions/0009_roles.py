"""Roles made over the API, who has them, and managers of groups. The previous release knows none of the three."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0009", "0008"

HOLDERS = {"user_id": "users", "service_id": "services", "group_id": "groups"}


def upgrade() -> None:
    op.create_table(
        "roles",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.String(1023), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_roles"),
        sa.UniqueConstraint("name", name="uq_roles_name"),
    )
    op.create_table(
        "role_assignments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("role_id", sa.Integer(), nullable=False),
        *(sa.Column(column, sa.Integer(), nullable=True) for column in HOLDERS),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_role_assignments"),
        sa.ForeignKeyConstraint(
            ["role_id"], ["roles.id"], ondelete="CASCADE", name="fk_role_assignments_role_id_roles"
        ),
        *(
            sa.ForeignKeyConstraint(
                [column], [f"{table}.id"], ondelete="CASCADE", name=f"fk_role_assignments_{column}_{table}"
            )
            for column, table in HOLDERS.items()
        ),
    )
    for column in HOLDERS:
        op.create_index(f"ix_role_assignments_{column}", "role_assignments", [column])
    # With a default of the database's own, for the previous release adds rows without a word on it.
    op.add_column(
        "user_group_map", sa.Column("manager", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    with op.batch_alter_table("user_group_map") as table:
        table.drop_column("manager")
    op.drop_table("role_assignments")
    op.drop_table("roles")
