"""`Caller`: who is calling, as the code behind our door sees it. It exists only after verification and a decision."""

import hashlib
from dataclasses import dataclass, field

from agentshield.identity.verify import VerifiedIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A verified peer that was let in.

    It is made from a `VerifiedIdentity`, which only verification makes, so there is no way to write one by hand.
    `record_id` names the decision and its event in the audit log. `trace` is the W3C `traceparent` the caller sent: a
    label for logs, which proves nothing.
    """

    identity: VerifiedIdentity
    record_id: str | None = None
    trace: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.identity, VerifiedIdentity):
            raise TypeError("a Caller is made from a VerifiedIdentity")

    @property
    def spiffe_id(self) -> str:
        """The caller's SPIFFE ID as text; as a value it is `identity.spiffe_id`."""
        return str(self.identity.spiffe_id)

    @property
    def issuer(self) -> str:
        """Who vouches for the caller: its trust domain's SPIFFE ID, or a token's `iss`."""
        return str(self.identity.claims.get("iss") or self.identity.trust_domain.id_string)

    @property
    def subject(self) -> str:
        """On whose behalf the call is made; with an SVID alone, the caller's own."""
        return self.spiffe_id

    @property
    def chain(self) -> tuple[str, ...]:
        """The line of agents through which the call came, the caller last; with an SVID alone, only the caller."""
        return (self.spiffe_id,)

    @property
    def scopes(self) -> frozenset[str]:
        """What the caller's credential is limited to; an SVID names nobody's scopes."""
        return frozenset()

    @property
    def proof(self) -> str:
        """By what the caller proved who it is: "x509-svid" or "jwt-svid"."""
        return self.identity.proof

    @property
    def binding(self) -> str | None:
        """SHA-256 of the certificate whose key the caller holds, in hex; None for a bearer token."""
        return hashlib.sha256(self.identity.chain[0]).hexdigest() if self.identity.chain else None
