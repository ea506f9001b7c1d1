"""The authorization server's tables: registrations, tokens, derivations, single uses, counters, signing keys."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_RISING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for name in ("oauth_clients", "oauth_resources", "oauth_issuers", "oauth_federated_credentials"):
        op.create_table(
            name,
            sa.Column("key", sa.Text, primary_key=True),
            sa.Column("issuer", sa.Text, nullable=False),
            sa.Column("document", sa.Text, nullable=False),
        )
        op.create_index(f"ix_{name}_issuer", name, ["issuer"])
    op.create_table(
        "oauth_tokens",
        sa.Column("jti", sa.String(255), primary_key=True),
        sa.Column("parents", sa.Text, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("audience", sa.Text, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("claims", sa.Text, nullable=False),
        sa.Column("opaque_sha256", sa.String(64)),
        sa.Column("credential", sa.Text),
        sa.Column("revocation", _RISING),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_index("ix_oauth_tokens_agent", "oauth_tokens", ["agent"])
    op.create_index("ix_oauth_tokens_expires_at", "oauth_tokens", ["expires_at"])
    for column in ("opaque_sha256", "revocation"):
        present = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_oauth_tokens_{column}",
            "oauth_tokens",
            [column],
            unique=True,
            sqlite_where=present,
            postgresql_where=present,
        )
    op.create_table(
        "oauth_derivations",
        sa.Column("parent", sa.String(255), primary_key=True),
        sa.Column("child", sa.String(255), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_oauth_derivations_child", "oauth_derivations", ["child"])
    op.create_table(
        "oauth_single_uses",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("kept_until", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_oauth_single_uses_kept_until", "oauth_single_uses", ["kept_until"])
    counters = op.create_table(
        "oauth_counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", _RISING, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "revocation", "value": 0}, {"name": "registration", "value": 0}])
    op.create_table(
        "oauth_signing_keys",
        sa.Column("algorithm", sa.String(16), primary_key=True),
        sa.Column("generation", _RISING, primary_key=True, autoincrement=False),
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("active_from", sa.BigInteger, nullable=False),
        sa.Column("active_until", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
        sa.Column("sealed_under", sa.String(16), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    for name in (
        "oauth_signing_keys",
        "oauth_counters",
        "oauth_single_uses",
        "oauth_derivations",
        "oauth_tokens",
        "oauth_federated_credentials",
        "oauth_issuers",
        "oauth_resources",
    ):
        op.drop_table(name)
    op.drop_table("oauth_clients")
