"""The authorization server's tables. `database/migrations` makes them; a test holds the two together."""

from typing import Final

import sqlalchemy as sa

from agentshield.database.types import Instant, RisingNumber

metadata: Final = sa.MetaData()


def _records(name: str) -> sa.Table:
    """A kind of registration: few, read whole, and written by administrators, so each is a document."""
    return sa.Table(
        name,
        metadata,
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("issuer", sa.Text, nullable=False),  # of those that are about a foreign issuer; else empty
        sa.Column("document", sa.Text, nullable=False),
        sa.Index(f"ix_{name}_issuer", "issuer"),
    )


CLIENTS: Final = _records("oauth_clients")
RESOURCES: Final = _records("oauth_resources")
ISSUERS: Final = _records("oauth_issuers")
CREDENTIALS: Final = _records("oauth_federated_credentials")

TOKENS: Final = sa.Table(
    "oauth_tokens",
    metadata,
    sa.Column("jti", sa.String(255), primary_key=True),
    sa.Column("parents", sa.Text, nullable=False),  # JSON
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("audience", sa.Text, nullable=False),
    sa.Column("issued_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("claims", sa.Text, nullable=False),  # JSON
    sa.Column("opaque_sha256", sa.String(64)),
    sa.Column("credential", sa.Text),
    sa.Column("revocation", RisingNumber),  # its epoch
    sa.Column("revoked_at", Instant),
    sa.Index("ix_oauth_tokens_agent", "agent"),
    sa.Index("ix_oauth_tokens_expires_at", "expires_at"),
)
# Partial: the many rows that are neither opaque nor revoked pay nothing.
sa.Index(
    "ix_oauth_tokens_opaque_sha256",
    TOKENS.c.opaque_sha256,
    unique=True,
    sqlite_where=TOKENS.c.opaque_sha256.is_not(None),
    postgresql_where=TOKENS.c.opaque_sha256.is_not(None),
)
sa.Index(
    "ix_oauth_tokens_revocation",
    TOKENS.c.revocation,
    unique=True,
    sqlite_where=TOKENS.c.revocation.is_not(None),
    postgresql_where=TOKENS.c.revocation.is_not(None),
)

DERIVATIONS: Final = sa.Table(
    "oauth_derivations",
    metadata,
    sa.Column("parent", sa.String(255), primary_key=True),
    sa.Column("child", sa.String(255), primary_key=True),
    sa.Index("ix_oauth_derivations_child", "child"),
    sqlite_with_rowid=False,
)

SINGLE_USES: Final = sa.Table(
    "oauth_single_uses",
    metadata,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),  # SHA-256 of kind, scope, value
    sa.Column("kept_until", Instant, nullable=False),
    sa.Index("ix_oauth_single_uses_kept_until", "kept_until"),
    sqlite_with_rowid=False,
)

# One row a number that may only rise; bumping it locks the row, so its order is the order of commits.
COUNTERS: Final = sa.Table(
    "oauth_counters",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", RisingNumber, nullable=False),
)

SIGNING_KEYS: Final = sa.Table(
    "oauth_signing_keys",
    metadata,
    sa.Column("algorithm", sa.String(16), primary_key=True),
    sa.Column("generation", RisingNumber, primary_key=True, autoincrement=False),
    sa.Column("kid", sa.String(64), nullable=False),
    sa.Column("active_from", Instant, nullable=False),
    sa.Column("active_until", Instant, nullable=False),
    sa.Column("ends_at", Instant, nullable=False),
    sa.Column("sealed_under", sa.String(16), nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

# One row a request of CIBA: who may come back for the answer, with which key, and how often.
BACKCHANNEL: Final = sa.Table(
    "oauth_backchannel",
    metadata,
    sa.Column("request_id", sa.String(36), primary_key=True),  # of the approval
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("binding", sa.String(80), nullable=False),
    sa.Column("interval", sa.Integer, nullable=False),  # seconds
    sa.Column("polled_at", Instant),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Index("ix_oauth_backchannel_expires_at", "expires_at"),
)

# One row an authorization request, from PAR to the spent code. A step compares `body`.
AUTHORIZATIONS: Final = sa.Table(
    "oauth_authorizations",
    metadata,
    sa.Column("request_id", sa.String(36), primary_key=True),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("ix_oauth_authorizations_expires_at", "expires_at"),
)
