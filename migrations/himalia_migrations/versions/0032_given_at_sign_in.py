"""Groups, roles and a shown name that came with a sign-in. The previous release leaves them as they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0032", "0031"


def upgrade() -> None:
    with op.batch_alter_table("users") as table:
        table.add_column(sa.Column("display_name", sa.String(255), nullable=True))
    with op.batch_alter_table("user_group_map") as table:
        table.add_column(sa.Column("given_by", sa.String(300), nullable=True))
    op.create_table(
        "sign_in_roles",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("realm", sa.String(300), nullable=False),
        sa.Column("role", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "realm", "role", name="pk_sign_in_roles"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_sign_in_roles_user_id_users", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("sign_in_roles")
    with op.batch_alter_table("user_group_map") as table:
        table.drop_column("given_by")
    with op.batch_alter_table("users") as table:
        table.drop_column("display_name")
