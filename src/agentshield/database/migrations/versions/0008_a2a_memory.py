"""What A2A owners' tasks, messages and artifacts were."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "a2a_memory",
        sa.Column("entry_id", sa.String(36), primary_key=True),
        sa.Column("owner_key", sa.String(64), nullable=False),
        sa.Column("agent", sa.String(512), nullable=False),
        sa.Column("context_id", sa.String(256), nullable=False),
        sa.Column("task_id", sa.String(256), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("item_id", sa.String(256), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("digest", name="uq_a2a_memory_digest"),
    )
    op.create_index("ix_a2a_memory_timeline", "a2a_memory", ["owner_key", "entry_id"])
    op.create_index("ix_a2a_memory_at", "a2a_memory", ["at"])


def downgrade() -> None:
    op.drop_table("a2a_memory")
