"""How each kind of resource of the admin API is shown in a table."""

import json
from datetime import UTC, datetime
from typing import Any

from agentshield.app.durations import duration_text
from agentshield.app.output import Column, Resource, Shape


def left(member: str) -> Any:
    """Make a column source that shows how long until the time in `member`."""

    def remaining(resource: Resource) -> str | None:
        moment = resource.get(member)
        if not moment:
            return None
        left = datetime.fromisoformat(str(moment)) - _now()
        return duration_text(left) if left.total_seconds() > 0 else "expired"

    return remaining


def exactly(member: str) -> Any:
    """Make a column source that shows a member as JSON, with nothing left out."""
    return lambda resource: json.dumps(resource.get(member), ensure_ascii=False, sort_keys=True)


def _now() -> datetime:
    from agentshield.clock import system_clock

    return system_clock().astimezone(UTC)


STATUS = Shape(
    "Status",
    "state_dir",
    (
        Column("TRUST DOMAIN", "trust_domain"),
        Column("WORKLOAD API", "workload_api"),
        Column("ISSUER", "issuer"),
        Column("STATE DIR", "state_dir"),
        Column("COMPONENTS", lambda r: ", ".join(f"{c['name']} {c['state']}" for c in r.get("components", ()))),
        Column("EXPIRES NEXT", lambda r: _expires_next(r)),
        Column("PID", "pid"),
        Column("AUTHORITY", "authority", only="wide"),
        Column("TOKEN SERVICE", "token_service", only="wide"),
    ),
)

AGENT = Shape(
    "Agent",
    "name",
    (
        Column("NAME", "name"),
        Column("STATUS", "status"),
        Column("OWNER", "owner"),
        Column("SPIFFE ID", "spiffe_id"),
        Column("SPONSOR", "sponsor", only="wide"),
        Column("CREATED", "created_at", only="wide"),
    ),
)

BLUEPRINT = Shape(
    "Blueprint",
    "name",
    (
        Column("NAME", "name"),
        Column("STATUS", "status"),
        Column("SPONSOR", "sponsor"),
        Column("SCOPES", lambda r: "; ".join(f"{at}: {' '.join(s)}" for at, s in r.get("scopes", {}).items())),
        Column("OWNER", "owner", only="wide"),
        Column("RISK", "risk", only="wide"),
        Column("CREATED", "created_at", only="wide"),
    ),
)

RESOURCE = Shape(
    "Resource",
    "audience",
    (
        Column("AUDIENCE", "audience"),
        Column("SERVER", "server"),
        Column("SCOPES", "scopes"),
        Column("FORMAT", "token_format", only="wide"),
        Column("ALGORITHM", "algorithm", only="wide"),
    ),
)

ISSUER = Shape(
    "Issuer",
    "name",
    (
        Column("NAME", "name"),
        Column("ISSUER", "issuer"),
        Column("PRESET", "preset"),
        Column("AUDIENCES", "audiences"),
        Column("SUBJECTS", "subject_profile"),
        Column("ALGORITHMS", "algorithms", only="wide"),
        Column("SIGN-IN", lambda r: (r.get("sign_in") or {}).get("client_id"), only="wide"),
    ),
)

CLAIM_CHECK = Shape(
    "ClaimCheck",
    "claim",
    (
        Column("CLAIM", "claim"),
        Column("HOLDS", "holds"),
        Column("ACTUAL", "actual"),
        Column("EXPECTED", "expected"),
        Column("NOTE", "note"),
    ),
)

FEDERATED_CREDENTIAL = Shape(
    "FederatedCredential",
    "name",
    (
        Column("NAME", "name"),
        Column("AGENT", "agent"),
        Column("ISSUER", "issuer"),
        Column("SUBJECT", "subject"),
        Column("AUDIENCE", "audience"),
        Column("CLAIMS", "claims", only="wide"),
    ),
)

APPROVAL = Shape(
    "Approval",
    "id",
    (
        Column("ID", "id"),
        Column("AGENT", "agent"),
        Column("ASKS", "approver"),
        Column("FOR", "resource"),
        Column("SCOPES", "context.scope"),
        Column("DIGEST", "short_digest"),
        Column("AGENT SAYS", "reason"),
        Column("EXPIRES IN", left("expires_at")),
    ),
)

EXACT_APPROVAL = Shape(
    "Approval",
    "id",
    (
        Column("ID", "id"),
        Column("STATUS", "status"),
        Column("AGENT", "agent"),
        Column("ASKS", "approver"),
        Column("ACTS FOR", exactly("subject")),
        Column("ACTORS", exactly("actors")),
        Column("ACTION", "action"),
        Column("FOR", "resource"),
        Column("CONTEXT", exactly("context")),
        Column("DETAILS", exactly("details")),
        Column("AGENT SAYS", "reason"),  # its own words, and not part of what is agreed to
        Column("DIGEST", "short_digest"),
        Column("EXPIRES IN", left("expires_at")),
        Column("WHOLE DIGEST", "digest", only="wide"),
        Column("ANSWERS", exactly("answers"), only="wide"),
    ),
)

CLIENT = Shape(
    "Client",
    "client_id",
    (
        Column("CLIENT ID", "client_id"),
        Column("AGENT", "agent"),
        Column("METHODS", "methods"),
        Column("SECRET EXPIRES IN", left("secret_expires_at")),
        Column("REDIRECT URIS", "redirect_uris", only="wide"),
        Column("CREATED", "created_at", only="wide"),
        Column("BY", "created_by", only="wide"),
    ),
)

ACCESS_TOKEN = Shape(
    "AccessToken",
    "audience",
    (
        Column("AUDIENCE", "audience"),
        Column("SCOPES", "scopes"),
        Column("CLIENT", "client_id"),
        Column("EXPIRES IN", left("expires_at")),
        Column("BOUND TO", "bound_to"),
        Column("FILE", "token_file"),
        Column("ISSUER", "issuer", only="wide"),
    ),
)

TOKEN_CLAIM = Shape(
    "TokenClaim",
    "claim",
    (
        Column("CLAIM", "claim"),
        Column("VALUE", "value"),
        Column("MEANING", "meaning"),
        Column("CLAUSE", "clause"),
    ),
)

TOKEN_INSPECTION = Shape("TokenInspection", "verified", (Column("VERIFIED", "verified"),))

TOKEN_CHECK = Shape(
    "TokenCheck",
    "check",
    (
        Column("CHECK", "check"),
        Column("RESULT", "result"),
        Column("FOUND", "found"),
        Column("CLAUSE", "clause"),
    ),
)

INTROSPECTION = Shape(
    "Introspection",
    "active",
    (
        Column("ACTIVE", "active"),
        Column("SUBJECT", "sub"),
        Column("CLIENT", "client_id"),
        Column("AUDIENCE", "aud"),
        Column("SCOPE", "scope"),
        Column("TYPE", "token_type"),
        Column("JTI", "jti"),
        Column("ACTORS", "act", only="wide"),
        Column("BOUND TO", "cnf", only="wide"),
    ),
)

TOKEN_REVOCATION = Shape(
    "TokenRevocation",
    "jti",
    (Column("JTI", "jti"), Column("REVOKED", "revoked")),
)

ENTRY = Shape(
    "Entry",
    "id",
    (
        Column("ENTRY ID", "id"),
        Column("SPIFFE ID", "spiffe_id"),
        Column("PARENT ID", "parent_id", only="wide"),
        Column("SELECTORS", "selectors"),
        Column("X509 TTL", "x509_svid_ttl", only="wide"),
        Column("JWT TTL", "jwt_svid_ttl", only="wide"),
        Column("FEDERATES WITH", "federates_with", only="wide"),
        Column("DNS NAMES", "dns_names", only="wide"),
        Column("HINT", "hint", only="wide"),
        Column("EXPIRES", "expires_at", only="wide"),
        Column("REVISION", "revision"),
    ),
)

COUNT = Shape("Count", "count", (Column("COUNT", "count"),))

JOIN_TOKEN = Shape(
    "JoinToken",
    "id",
    (
        Column("ID", "id"),
        Column("SPIFFE ID", "spiffe_id"),
        Column("EXPIRES IN", left("expires_at")),
    ),
)

NODE = Shape(
    "Node",
    "id",
    (
        Column("SPIFFE ID", "id"),
        Column("ATTESTATION", "attestation_type"),
        Column("STATE", "state"),
        Column("EXPIRES IN", left("expires_at")),
        Column("SELECTORS", "selectors", only="wide"),
        Column("SERIAL", "serial", only="wide"),
    ),
)

BUNDLE = Shape(
    "Bundle",
    "trust_domain",
    (
        Column("TRUST DOMAIN", "trust_domain"),
        Column("X509 AUTHORITIES", "x509_authorities"),
        Column("JWT AUTHORITIES", "jwt_authorities"),
        Column("WIT AUTHORITIES", "wit_authorities"),
        Column("SEQUENCE", "sequence"),
    ),
)

LOCK = Shape(
    "Lock",
    "id",
    (
        Column("ID", "id"),
        Column("AGENT", "agent"),
        Column("REASON", "reason"),
    ),
)

CONFIRMATION = Shape(
    "Confirmation",
    "name",
    (
        Column("NAME", "name"),
        Column("STATUS", "status"),
        Column(
            "CONFIRMED BY", lambda r: f"{r.get('confirmed', 0)} of {r.get('enforcement_points', 0)} enforcement points"
        ),
    ),
)

DECISION = Shape(
    "Decision",
    "decision",
    (
        Column("DECISION", "decision"),
        Column("FROM", "principal"),
        Column("TO", "resource"),
        Column("ACTION", "action"),
        Column("REASONS", "reasons"),
        Column("ALLOW WITH", "remedy"),
    ),
)

POLICY = Shape(
    "Policy",
    "digest",
    (
        Column("DIGEST", lambda r: str(r.get("digest", ""))[:19]),
        Column("VERSION", "version"),
        Column("FILES", "files"),
        Column("ACTIVATED", "activated_at"),
        Column("BY", "activated_by", only="wide"),
    ),
)

EVENT = Shape(
    "AuditEvent",
    "id",
    (
        Column("INDEX", "index"),
        Column("TIME", "time"),
        Column("EVENT", "name"),
        Column("ACTOR", "actor"),
        Column("TARGET", "target"),
        Column("ACTION", "action"),
        Column("OUTCOME", "outcome"),
        Column("REASON", "reason"),
        Column("ID", "id"),
    ),
)

CALL = Shape("Call", "decision_id", (Column("STATUS", "status"),))

IDENTITY = Shape(
    "Identity",
    "spiffe_id",
    (
        Column("SPIFFE ID", "spiffe_id"),
        Column("TYPE", "type"),
        Column("EXPIRES IN", left("expires_at")),
        Column("SERIAL", "serial"),
        Column("AUDIENCE", "audience", only="wide"),
        Column("KEY", "key", only="wide"),
        Column("TRUST DOMAINS", "trust_domains", only="wide"),
        Column("DNS NAMES", "dns_names", only="wide"),
        Column("ISSUER", "issuer", only="wide"),
        Column("VERIFIED", "verified", only="wide"),
    ),
)

PING = Shape(
    "Ping",
    "peer",
    (
        Column("ME", "me"),
        Column("PEER", "peer"),
        Column("TRUST BUNDLE", "trust_bundle"),
        Column("THEIRS EXPIRES IN", left("peer_svid_expires_at")),
        Column("MINE EXPIRES IN", left("my_svid_expires_at"), only="wide"),
        Column("TLS", "tls"),
        Column("MS", "milliseconds"),
    ),
)

EXPLANATION = Shape("Explanation", "pid", (Column("PID", "pid"), Column("SELECTORS", "selectors")))

CHECKPOINT = Shape(
    "Checkpoint",
    "root",
    (
        Column("ORIGIN", "origin"),
        Column("SIZE", "size"),
        Column("ROOT", "root"),
        Column("VERIFIED", "verified"),
    ),
)


def _expires_next(resource: Resource) -> str | None:
    match resource.get("expires_next"):
        case {"what": what, "at": at}:
            return f"{what} in {left('at')({'at': at})}"
        case _:
            return None
