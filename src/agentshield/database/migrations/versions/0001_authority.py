"""The authority's tables: entries, nodes, join tokens, agents, policies, authorities, bundles, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_RISING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("entry_id", sa.String(255), primary_key=True),
        sa.Column("spiffe_id", sa.Text, nullable=False),
        sa.Column("parent_id", sa.Text, nullable=False),
        sa.Column("selectors", sa.JSON, nullable=False),
        sa.Column("similarity", sa.String(64), nullable=False),
        sa.Column("x509_svid_ttl", sa.BigInteger),
        sa.Column("jwt_svid_ttl", sa.BigInteger),
        sa.Column("federates_with", sa.JSON, nullable=False),
        sa.Column("dns_names", sa.JSON, nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("downstream", sa.Boolean, nullable=False),
        sa.Column("store_svid", sa.Boolean, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revision_number", _RISING, nullable=False),
        sa.Column("disable_x509_svid_prefetch", sa.Boolean, nullable=False),
        sa.Column("jwt_svid_include_jti", sa.Boolean, nullable=False),
        sa.UniqueConstraint("similarity", name="uq_entries_similarity"),
    )
    op.create_index("ix_entries_spiffe_id", "entries", ["spiffe_id"])
    op.create_table(
        "nodes",
        sa.Column("spiffe_id", sa.Text, primary_key=True),
        sa.Column("attestation_type", sa.String(255), nullable=False),
        sa.Column("serial", sa.String(64), nullable=False),
        sa.Column("pending_serial", sa.String(64), nullable=False),
        sa.Column("svid_expires_at", sa.BigInteger, nullable=False),
        sa.Column("selectors", sa.JSON, nullable=False),
        sa.Column("can_reattest", sa.Boolean, nullable=False),
        sa.Column("agent_version", sa.String(255), nullable=False),
        sa.Column("attested_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "join_tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("agent_id", sa.Text),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "agents",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("spiffe_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("sponsor", sa.Text, nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("risk", sa.String(32), nullable=False),
        sa.Column("skills", sa.JSON, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("status_reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("spiffe_id", name="uq_agents_spiffe_id"),
    )
    op.create_table(
        "policies",
        sa.Column("number", _RISING, primary_key=True),
        sa.Column("digest", sa.String(128), nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("activated_at", sa.BigInteger, nullable=False),
        sa.Column("activated_by", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "authorities",
        sa.Column("authority_id", sa.String(255), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("replica", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("public_material", sa.LargeBinary, nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
        sa.Column("tainted", sa.Boolean, nullable=False),
    )
    op.create_table(
        "federated_bundles",
        sa.Column("trust_domain", sa.String(255), primary_key=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("value", _RISING, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "enforcement", "value": 0}, {"name": "bundle", "value": 0}])
    op.create_table(
        "events",
        sa.Column("event_id", _RISING, primary_key=True),
        sa.Column("noun", sa.String(32), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for name in (
        "events",
        "counters",
        "federated_bundles",
        "authorities",
        "policies",
        "agents",
        "join_tokens",
        "nodes",
    ):
        op.drop_table(name)
    op.drop_table("entries")
