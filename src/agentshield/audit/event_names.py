"""Every name an audit event can have: `noun.what_happened`, the noun being the thing it happened to."""

from enum import StrEnum


class EventName(StrEnum):
    """The dotted names; stable across releases, because people search and alert by them."""

    CALL_DECIDED = "call.decided"

    PEER_AUTHENTICATED = "peer.authenticated"
    PEER_REFUSED = "peer.refused"

    WORKLOAD_ATTESTED = "workload.attested"
    WORKLOAD_REFUSED = "workload.refused"

    NODE_ATTESTED = "node.attested"
    NODE_REFUSED = "node.refused"
    NODE_RENEWED = "node.renewed"
    NODE_BANNED = "node.banned"
    NODE_EVICTED = "node.evicted"

    SVID_ISSUED = "svid.issued"
    SVID_REFUSED = "svid.refused"

    ENTRY_CREATED = "entry.created"
    ENTRY_UPDATED = "entry.updated"
    ENTRY_DELETED = "entry.deleted"

    AGENT_CREATED = "agent.created"
    AGENT_SUSPENDED = "agent.suspended"
    AGENT_RESUMED = "agent.resumed"
    AGENT_DELETED = "agent.deleted"
    AGENT_LOCKED = "agent.locked"
    AGENT_UNLOCKED = "agent.unlocked"

    BLUEPRINT_CREATED = "blueprint.created"
    BLUEPRINT_UPDATED = "blueprint.updated"
    BLUEPRINT_DISABLED = "blueprint.disabled"
    BLUEPRINT_ENABLED = "blueprint.enabled"
    BLUEPRINT_DELETED = "blueprint.deleted"

    JOIN_TOKEN_CREATED = "join_token.created"  # noqa: S105 - a name, no token
    JOIN_TOKEN_REVOKED = "join_token.revoked"  # noqa: S105 - as above

    FEDERATION_SET = "federation.set"
    FEDERATION_DELETED = "federation.deleted"

    POLICY_ACTIVATED = "policy.activated"

    AUTHORITY_PREPARED = "authority.prepared"
    AUTHORITY_ACTIVATED = "authority.activated"
    AUTHORITY_TAINTED = "authority.tainted"
    AUTHORITY_REVOKED = "authority.revoked"
    AUTHORITY_RETIRED = "authority.retired"

    TOKEN_ISSUED = "token.issued"  # noqa: S105 - a name, no token
    TOKEN_REFUSED = "token.refused"  # noqa: S105 - as above
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - as above

    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_GRANTED = "approval.granted"
    APPROVAL_DENIED = "approval.denied"
    APPROVAL_USED = "approval.used"

    AUTHORIZATION_REQUESTED = "authorization.requested"
    AUTHORIZATION_CONSENTED = "authorization.consented"
    AUTHORIZATION_DENIED = "authorization.denied"
    AUTHORIZATION_FAILED = "authorization.failed"
    AUTHORIZATION_CODE_ISSUED = "authorization.code_issued"
    AUTHORIZATION_REDEEMED = "authorization.redeemed"
    AUTHORIZATION_REFRESHED = "authorization.refreshed"
    AUTHORIZATION_REPLAYED = "authorization.replayed"
    AUTHORIZATION_REVOKED = "authorization.revoked"

    CLIENT_CREATED = "client.created"
    CLIENT_UPDATED = "client.updated"
    CLIENT_DELETED = "client.deleted"
    RESOURCE_CREATED = "resource.created"
    RESOURCE_UPDATED = "resource.updated"
    RESOURCE_DELETED = "resource.deleted"
    ISSUER_CREATED = "issuer.created"
    ISSUER_UPDATED = "issuer.updated"
    ISSUER_DELETED = "issuer.deleted"
    FEDERATED_CREDENTIAL_CREATED = "federated_credential.created"
    FEDERATED_CREDENTIAL_UPDATED = "federated_credential.updated"
    FEDERATED_CREDENTIAL_DELETED = "federated_credential.deleted"

    AUDIT_READ = "audit.read"
    AUDIT_ERASED = "audit.erased"
    AUDIT_LOST = "audit.lost"
