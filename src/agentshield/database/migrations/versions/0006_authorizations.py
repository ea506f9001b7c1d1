"""Authorization requests: what a client lodged, and how far a human has come with it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "oauth_authorizations",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_oauth_authorizations_expires_at", "oauth_authorizations", ["expires_at"])


def downgrade() -> None:
    op.drop_table("oauth_authorizations")
