"""Requests for a human's approval, and how each client that asked by CIBA comes back for the answer."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("secret_sha256", name="uq_approvals_secret_sha256"),
    )
    op.create_index("ix_approvals_agent", "approvals", ["agent"])
    op.create_index("ix_approvals_expires_at", "approvals", ["expires_at"])
    op.create_table(
        "oauth_backchannel",
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("binding", sa.String(80), nullable=False),
        sa.Column("interval", sa.Integer, nullable=False),
        sa.Column("polled_at", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_oauth_backchannel_expires_at", "oauth_backchannel", ["expires_at"])


def downgrade() -> None:
    op.drop_table("oauth_backchannel")
    op.drop_table("approvals")
