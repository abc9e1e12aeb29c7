"""Throw-away sessions from links: launches, their story, environments. The previous release knows none of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0013", "0012"


def upgrade() -> None:
    # With a default of the database's own, for the previous release adds rows without a word on it.
    op.add_column("users", sa.Column("guest", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "launches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("provider", sa.String(16), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("spec", "stem", "url", "label")),
        sa.Column("ref", sa.String(255), nullable=False),
        sa.Column("commit", sa.String(64), nullable=False),
        sa.Column("opening", sa.Text(), nullable=False),
        sa.Column("visitor", sa.String(300), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("stage_since", sa.DateTime(), nullable=False),
        sa.Column("seated", sa.Boolean(), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("uid", sa.Integer(), nullable=True),
        sa.Column("guest", sa.String(255), nullable=False),
        sa.Column("guest_id", sa.Integer(), nullable=True),
        sa.Column("server_id", sa.Integer(), nullable=True),
        sa.Column("failure", sa.JSON(), nullable=True),
        sa.Column("ended_because", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_launches"),
        sa.UniqueConstraint("key", name="uq_launches_key"),
        sa.UniqueConstraint("uid", name="uq_launches_uid"),
        sa.ForeignKeyConstraint(
            ["guest_id"], ["users.id"], ondelete="SET NULL", name="fk_launches_guest_id_users"
        ),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], ondelete="SET NULL", name="fk_launches_server_id_servers"
        ),
    )
    for column in ("visitor", "stage", "guest_id"):
        op.create_index(f"ix_launches_{column}", "launches", [column])
    op.create_table(
        "launch_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("launch_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_launch_events"),
        sa.ForeignKeyConstraint(
            ["launch_id"], ["launches.id"], ondelete="CASCADE", name="fk_launch_events_launch_id_launches"
        ),
    )
    op.create_index("ix_launch_events_launch_id", "launch_events", ["launch_id"])
    op.create_table(
        "environments",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("ready", sa.DateTime(), nullable=True),
        sa.Column("last_used", sa.DateTime(), nullable=False),
        sa.Column("failure", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_environments"),
    )
    op.create_table(
        "build_lines",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_build_lines"),
        sa.ForeignKeyConstraint(
            ["environment"],
            ["environments.key"],
            ondelete="CASCADE",
            name="fk_build_lines_environment_environments",
        ),
    )
    op.create_index("ix_build_lines_environment", "build_lines", ["environment"])


def downgrade() -> None:
    for name in ("build_lines", "environments", "launch_events", "launches"):
        op.drop_table(name)
    with op.batch_alter_table("users") as table:
        table.drop_column("guest")
