"""Who calls with an access token: the agent that holds it, for whom it acts, and through whom it came to hold it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from agentshield.identity.access_token import AccessTokenClaims
from agentshield.identity.errors import InvalidSpiffeIdError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

_SEAL: Final = object()


class ProvenIdentity(Protocol):
    """What a decision needs to know of a caller, however it proved itself: `VerifiedIdentity` or `TokenHolder`."""

    @property
    def spiffe_id(self) -> SpiffeId:
        """The agent that calls."""
        ...

    @property
    def proof(self) -> Literal["x509-svid", "jwt-svid", "access-token"]:
        """By what it proved itself."""
        ...

    @property
    def not_before(self) -> datetime | None:
        """When the proof begins."""
        ...

    @property
    def valid_until(self) -> datetime:
        """When the proof ends."""
        ...

    def is_fresh(self, at: datetime) -> bool:
        """Whether the proof still holds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHolder:
    """An agent that presented a token and proved that it is its own. Only `TokenVerifier` makes one.

    `value` is the token, for exchanging it further; it is never shown.
    """

    spiffe_id: SpiffeId
    claims: AccessTokenClaims
    value: str = field(repr=False)
    chain: tuple[bytes, ...] = ()  # as of a VerifiedIdentity without a certificate
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("TokenHolder comes out of TokenVerifier.verify only")

    @property
    def proof(self) -> Literal["access-token"]:
        """By what it proved itself: always with the key that the token is bound to."""
        return "access-token"

    @property
    def trust_domain(self) -> TrustDomain:
        """The trust domain of the agent."""
        return self.spiffe_id.trust_domain

    @property
    def not_before(self) -> datetime:
        """When the token was issued."""
        return self.claims.issued_at

    @property
    def valid_until(self) -> datetime:
        """When the token ends."""
        return self.claims.expires_at

    def is_fresh(self, at: datetime) -> bool:
        """Whether the token's time is not over."""
        return at < self.claims.expires_at

    @property
    def binding(self) -> str:
        """The thumbprint of the key that the token is bound to, and that the caller proved (RFC 7638, RFC 8705)."""
        confirmation = self.claims.confirmation
        assert confirmation is not None, "an unbound token has no holder"
        return confirmation.jkt or confirmation.x5t_s256 or ""

    @property
    def agents(self) -> tuple[SpiffeId, ...]:
        """Every agent of the chain, the one that calls last; the subject too, if it is one."""
        named = [self.claims.subject] if self.claims.subject_profile != "user" else []
        named += [
            party.subject for party in reversed(self.claims.act_chain.actors) if party.issuer == self.claims.issuer
        ]
        return tuple(agent for name in named if (agent := workload_id(name)) is not None)


def workload_id(name: str) -> SpiffeId | None:
    """Read a name as that of a workload, if it is one."""
    try:
        spiffe_id = SpiffeId.parse(name)
    except InvalidSpiffeIdError:
        return None
    return spiffe_id if spiffe_id.is_workload else None


def seal_holder(agent: SpiffeId, claims: AccessTokenClaims, value: str) -> TokenHolder:
    """Make a holder; for `TokenVerifier`, once everything holds."""
    return TokenHolder(spiffe_id=agent, claims=claims, value=value, _seal=_SEAL)
