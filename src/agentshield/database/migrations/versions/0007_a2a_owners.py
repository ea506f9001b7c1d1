"""Whose A2A tasks and contexts are."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "a2a_tasks",
        sa.Column("agent", sa.String(512), primary_key=True),
        sa.Column("task_id", sa.String(256), primary_key=True),
        sa.Column("owner_key", sa.String(64), nullable=False),
        sa.Column("context_id", sa.String(256), nullable=False),
        sa.Column("skills", sa.Text, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_a2a_tasks_owner", "a2a_tasks", ["agent", "owner_key", "is_open"])
    op.create_table(
        "a2a_contexts",
        sa.Column("agent", sa.String(512), primary_key=True),
        sa.Column("owner_key", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(256), primary_key=True),
        sa.Column("agent_name", sa.String(256), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("agent", "agent_name", name="uq_a2a_contexts_agent_name"),
    )


def downgrade() -> None:
    op.drop_table("a2a_contexts")
    op.drop_table("a2a_tasks")
