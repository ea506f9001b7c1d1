"""`Caller`: who is calling, as the code behind our door sees it. It exists only after verification and a decision."""

import hashlib
from dataclasses import dataclass, field

from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.token_holder import TokenHolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A verified peer that was let in.

    It is made from a `VerifiedIdentity` or a `TokenHolder`, which only verification makes, so there is no way to write
    one by hand. `record_id` names the decision and its event in the audit log. `trace` is the W3C `traceparent` the
    caller sent: a label for logs, which proves nothing.
    """

    identity: VerifiedIdentity | TokenHolder
    record_id: str | None = None
    trace: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.identity, VerifiedIdentity | TokenHolder):
            raise TypeError("a Caller is made from a VerifiedIdentity or a TokenHolder")

    @property
    def spiffe_id(self) -> str:
        """The SPIFFE ID of the agent that calls, as text; as a value it is `identity.spiffe_id`."""
        return str(self.identity.spiffe_id)

    @property
    def issuer(self) -> str:
        """Who vouches for the caller: its trust domain's SPIFFE ID, or a token's `iss`."""
        if isinstance(self.identity, TokenHolder):
            return self.identity.claims.issuer
        return str(self.identity.claims.get("iss") or self.identity.trust_domain.id_string)

    @property
    def subject(self) -> str:
        """On whose behalf the call is made: a token's `sub`, who may be a user; without a token, the caller."""
        return self.identity.claims.subject if isinstance(self.identity, TokenHolder) else self.spiffe_id

    @property
    def chain(self) -> tuple[str, ...]:
        """The line of agents through which the call came, the caller last; with an SVID alone, only the caller."""
        if isinstance(self.identity, TokenHolder):
            return tuple(str(agent) for agent in self.identity.agents)
        return (self.spiffe_id,)

    @property
    def scopes(self) -> frozenset[str]:
        """What the caller's token is limited to; an SVID names nobody's scopes."""
        return self.identity.claims.scopes if isinstance(self.identity, TokenHolder) else frozenset()

    @property
    def proof(self) -> str:
        """By what the caller proved who it is: "x509-svid", "jwt-svid" or "access-token"."""
        return self.identity.proof

    @property
    def binding(self) -> str | None:
        """Which key the caller holds: its certificate's SHA-256 in hex, or the thumbprint that its token is bound to.

        None for a bearer token.
        """
        if isinstance(self.identity, TokenHolder):
            return self.identity.binding
        return hashlib.sha256(self.identity.chain[0]).hexdigest() if self.identity.chain else None

    def token(self) -> str:
        """Return the caller's token, to exchange it for one with which we act for its subject; it is a secret.

        Raises:
            ValueError: the caller came with an SVID alone.
        """
        if not isinstance(self.identity, TokenHolder):
            raise ValueError(f"{self.spiffe_id} came without a token, so nobody can act on its behalf")
        return self.identity.value
