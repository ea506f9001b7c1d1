"""The authority's tables. `database/migrations` makes them; a test holds the two together."""

from sqlalchemy import JSON, Boolean, Column, LargeBinary, MetaData, String, Table, Text

from agentshield.database.types import Duration, Instant, RisingNumber

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
)

ENTRIES = Table(
    "entries",
    metadata,
    Column("entry_id", String(255), primary_key=True),
    Column("spiffe_id", Text, nullable=False, index=True),
    Column("parent_id", Text, nullable=False),
    Column("selectors", JSON, nullable=False),
    # SHA-256 over ID, parent and selectors: two "similar" entries would fight over the same workloads
    Column("similarity", String(64), nullable=False, unique=True),
    Column("x509_svid_ttl", Duration),
    Column("jwt_svid_ttl", Duration),
    Column("federates_with", JSON, nullable=False),
    Column("dns_names", JSON, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("downstream", Boolean, nullable=False),
    Column("store_svid", Boolean, nullable=False),
    Column("hint", Text, nullable=False),
    Column("expires_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("revision_number", RisingNumber, nullable=False),
    Column("disable_x509_svid_prefetch", Boolean, nullable=False),
    Column("jwt_svid_include_jti", Boolean, nullable=False),
)

NODES = Table(
    "nodes",
    metadata,
    Column("spiffe_id", Text, primary_key=True),
    Column("attestation_type", String(255), nullable=False),
    Column("serial", String(64), nullable=False),  # empty: banned, as in SPIRE
    Column("pending_serial", String(64), nullable=False),
    Column("svid_expires_at", Instant, nullable=False),
    Column("selectors", JSON, nullable=False),
    Column("can_reattest", Boolean, nullable=False),
    Column("agent_version", String(255), nullable=False),
    Column("attested_at", Instant, nullable=False),
)

JOIN_TOKENS = Table(
    "join_tokens",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256: who reads the database cannot spend a token
    Column("agent_id", Text),
    Column("expires_at", Instant, nullable=False),
)

AGENTS = Table(
    "agents",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("spiffe_id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("sponsor", Text, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("risk", String(32), nullable=False),
    Column("skills", JSON, nullable=False),
    Column("status", String(32), nullable=False),
    Column("status_reason", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("blueprint", String(255), index=True),
)

BLUEPRINTS = Table(
    "blueprints",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("sponsor", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("risk", String(32), nullable=False),
    Column("description", Text, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("disabled_reason", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

POLICIES = Table(
    "policies",
    metadata,
    Column("number", RisingNumber, primary_key=True),
    Column("digest", String(128), nullable=False),
    Column("files", JSON, nullable=False),
    Column("activated_at", Instant, nullable=False),
    Column("activated_by", Text, nullable=False),
    sqlite_autoincrement=True,
)

AUTHORITIES = Table(
    "authorities",
    metadata,
    Column("authority_id", String(255), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("replica", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("public_material", LargeBinary, nullable=False),  # DER: a certificate (x509), or a public key
    Column("not_before", Instant, nullable=False),
    Column("not_after", Instant, nullable=False),
    Column("tainted", Boolean, nullable=False),
)

FEDERATED_BUNDLES = Table(
    "federated_bundles",
    metadata,
    Column("trust_domain", String(255), primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

# One row a number that may only rise; bumping it locks the row, so its order is the order of commits.
COUNTERS = Table(
    "counters",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("value", RisingNumber, nullable=False),
)

EVENTS = Table(
    "events",
    metadata,
    Column("event_id", RisingNumber, primary_key=True),
    Column("noun", String(32), nullable=False),
    Column("key", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    sqlite_autoincrement=True,
)
