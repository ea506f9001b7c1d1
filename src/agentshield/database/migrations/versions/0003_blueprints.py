"""Blueprints, and which of them an agent is of. Only adds: the release before this one reads on."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "blueprints",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("sponsor", sa.Text, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("risk", sa.String(32), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.add_column("agents", sa.Column("blueprint", sa.String(255), nullable=True))
    op.create_index("ix_agents_blueprint", "agents", ["blueprint"])
