"""The audit log's tables: its size, its events, its checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_RISING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "size": 0}])
    op.create_table(
        "audit_events",
        sa.Column("idx", _RISING, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("body", sa.LargeBinary),
        sa.Column("agent", sa.Text),
        sa.Column("peer", sa.Text),
        sa.Column("decision", sa.String(8)),
        sa.Column("reasons", sa.Text),
        sa.UniqueConstraint("event_id", name="uq_audit_events_event_id"),
    )
    op.create_index("ix_audit_events_agent", "audit_events", ["agent", "idx"])
    op.create_index("ix_audit_events_peer", "audit_events", ["peer", "idx"])
    op.create_index("ix_audit_events_name", "audit_events", ["name", "idx"])
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", _RISING, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
    )
