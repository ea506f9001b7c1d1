"""First attempts at A2A messages, and what they were answered."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "a2a_attempts",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("forget_at", sa.BigInteger, nullable=False),
        sa.Column("is_answered", sa.Boolean, nullable=False),
        sa.Column("task_id", sa.String(256), nullable=False),
        sa.Column("is_kept", sa.Boolean, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_a2a_attempts_forget_at", "a2a_attempts", ["forget_at"])


def downgrade() -> None:
    op.drop_table("a2a_attempts")
