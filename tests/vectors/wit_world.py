"""A world whose trust domain also signs WIT-SVIDs, by another library's hand, and whose server takes them."""

from dataclasses import dataclass, field, replace
from typing import Any

from joserfc.jwk import Key
from oauth_world import AS, OAuthWorld
from wit_forge import WitForge, new_key, public_jwk

from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.oauth.client_auth.authenticator import ClientAuthenticator
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import SPIFFE_WIT_DRAFT


@dataclass
class WitWorld(OAuthWorld):
    """The planner holds one key all along."""

    holder: Key = field(default_factory=new_key)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings = replace(self.settings, drafts=frozenset({SPIFFE_WIT_DRAFT}))
        self.forge = WitForge(self.clock())

    @property
    def trusted(self) -> TrustBundle:
        """The trust domain's bundle: what OAuthWorld's has, and the WIT authority."""
        wits = TrustBundle.from_json(self.domain.trust_domain, self.forge.bundle())
        return replace(self.domain.bundle, wit_authorities=wits.wit_authorities)

    @property
    def authenticator(self) -> ClientAuthenticator:
        return ClientAuthenticator(
            self.settings, self.store, self.directory, BundleSet.of(self.trusted), self.federation
        )

    @property
    def jkt(self) -> str:
        """The thumbprint of the planner's key, as the other library computes it."""
        return self.holder.thumbprint()

    def wit(self, **changes: Any) -> str:
        """A WIT-SVID of the planner for its key."""
        return self.forge.wit(**{"jwk": public_jwk(self.holder), **changes})

    def proof(self, key: Key | None = None, audience: Any = AS, **changes: Any) -> str:
        """A proof that the planner has its key, for this server, now."""
        return self.forge.attestation_proof(key or self.holder, audience, **changes)

    def shown(self, *, wit: str | None = None, proof: str | None = None, **form: str) -> OAuthRequest:
        """A request with a WIT-SVID and a proof."""
        wits, proofs = (self.wit() if wit is None else wit,), (self.proof() if proof is None else proof,)
        return replace(self.request(**form), client_attestation=wits, client_attestation_pop=proofs)
