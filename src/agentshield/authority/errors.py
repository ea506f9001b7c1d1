"""Why the authority says no.

InvalidInputError
├── InvalidEntryError          a registration entry that cannot be
└── InvalidAgentError          an agent name, owner or skill that cannot be
AuthenticationError
└── AttestationError           a node did not prove what it is
    └── JoinTokenError         unknown, used or expired
AuthorizationError
├── ForeignTrustDomainError    we speak for our own trust domain only
├── NodeBannedError            an operator has banned this node
├── NodeNotAttestedError       we know no such node: evicted, or never attested
├── NodeNotActiveError         an SVID that is no longer the node's current one
├── MustReattestError          this node attests anew instead of renewing
└── AgentNotActiveError        suspended or locked
NotFoundError
├── EntryNotFoundError · NodeNotFoundError · AgentNotFoundError · BundleNotFoundError · PolicyNotFoundError ·
│   UnknownAuthorityError
└── EntryNotAuthorizedError    not this node's entry; said as "not found", so that nobody can probe for entries
ConflictError
├── SimilarEntryError          carries the entry that is there already
├── AgentExistsError
└── RevisionConflictError      somebody else changed it meanwhile
UnavailableError
└── NoAuthorityError           no signing authority is active
"""

from typing import TYPE_CHECKING

from agentshield.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    from agentshield.authority.model import RegistrationEntry


class InvalidEntryError(InvalidInputError):
    """A registration entry that breaks a rule of its own fields."""

    code = "invalid_entry"


class InvalidAgentError(InvalidInputError):
    """An agent record that breaks a rule of its own fields."""

    code = "invalid_agent"


class InvalidBlueprintError(InvalidInputError):
    """A blueprint that breaks a rule of its own fields."""

    code = "invalid_blueprint"


class BlueprintExistsError(ConflictError):
    """There is a blueprint of this name already."""

    code = "blueprint_exists"


class BlueprintInUseError(ConflictError):
    """Agents are of this blueprint."""

    code = "blueprint_in_use"


class BlueprintNotFoundError(NotFoundError):
    """There is no blueprint of this name."""

    code = "blueprint_not_found"


class AttestationError(AuthenticationError):
    """A node did not prove what it claims to be."""

    code = "attestation_failed"


class JoinTokenError(AttestationError):
    """A join token that is unknown, already used, or expired; which of the three is told to nobody."""

    code = "join_token_refused"


class ForeignTrustDomainError(AuthorizationError):
    """Something that only another trust domain's authority may do, asked of us (or ours, asked of another)."""

    code = "foreign_trust_domain"


class NodeBannedError(AuthorizationError):
    """The node was banned; it stays so until it is evicted."""

    code = "node_banned"


class NodeNotAttestedError(AuthorizationError):
    """The caller holds an SVID of a node that is not registered (any more)."""

    code = "node_not_attested"


class NodeNotActiveError(AuthorizationError):
    """The caller holds an SVID that has been superseded by a newer one."""

    code = "node_not_active"


class MustReattestError(AuthorizationError):
    """The node can prove itself anew, so it must, instead of renewing on the strength of its SVID."""

    code = "must_reattest"


class AgentNotActiveError(AuthorizationError):
    """The agent is suspended or locked: nothing is issued to it."""

    code = "agent_not_active"


class JoinTokenNotFoundError(NotFoundError):
    """No join token that can still be used has this ID."""

    code = "join_token_not_found"


class EntryNotFoundError(NotFoundError):
    """No registration entry has this ID."""

    code = "entry_not_found"


class EntryNotAuthorizedError(NotFoundError):
    """The entry is not this node's to serve, has expired, or does not exist."""

    code = "entry_not_authorized"


class NodeNotFoundError(NotFoundError):
    """No attested node has this SPIFFE ID."""

    code = "node_not_found"


class AgentNotFoundError(NotFoundError):
    """No agent has this name."""

    code = "agent_not_found"


class BundleNotFoundError(NotFoundError):
    """We hold no bundle of this trust domain."""

    code = "bundle_not_found"


class PolicyNotFoundError(NotFoundError):
    """No policy set has this number, or none was ever activated."""

    code = "policy_not_found"


class UnknownAuthorityError(NotFoundError):
    """The journal has no signing authority of this ID."""

    code = "authority_not_found"


class SimilarEntryError(ConflictError):
    """An entry with the same SPIFFE ID, parent and selectors exists: `existing`."""

    code = "similar_entry"

    def __init__(self, existing: "RegistrationEntry") -> None:
        super().__init__(
            f"entry {existing.entry_id} has this SPIFFE ID, parent and selectors already: {existing.spiffe_id}",
            hint=f"agentshield entry update -entryID {existing.entry_id} changes it",
        )
        self.existing = existing


class AgentExistsError(ConflictError):
    """An agent of this name exists."""

    code = "agent_exists"


class RevisionConflictError(ConflictError):
    """The record was changed by somebody else since it was read."""

    code = "revision_conflict"


class NoAuthorityError(UnavailableError):
    """No signing authority is active: nothing can be issued now."""

    code = "no_authority"
