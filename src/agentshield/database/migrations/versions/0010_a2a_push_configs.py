"""Where A2A owners want their tasks' events sent; sealed."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "a2a_push_configs",
        sa.Column("agent", sa.String(512), primary_key=True),
        sa.Column("owner_key", sa.String(64), primary_key=True),
        sa.Column("task_id", sa.String(256), primary_key=True),
        sa.Column("config_id", sa.String(256), primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("a2a_push_configs")
