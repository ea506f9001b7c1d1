"""What a card asks of callers (A2A 4.4, 7.4): one of its alternatives, whole; then one of each skill's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agentshield.errors import AuthenticationError
from agentshield.identity.agent_card.card import AgentCard, Requirement, Scheme, SchemeKind
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.token_errors import InsufficientScopeError
from agentshield.sdk.token_holder import TokenHolder


class RequirementNotMetError(AuthenticationError):
    """The caller has proved who it is, and not in a way that the card asks for."""

    code = "a2a_requirement_not_met"


@dataclass(frozen=True, slots=True)
class ShownProofs:
    """What a caller has proved, by the card's names for it, with the scopes that came with each scheme.

    None: it has no scopes, so whatever a requirement lists there is a label (OpenAPI 3.2, 4.30).
    """

    schemes: Mapping[str, frozenset[str] | None] = field(default_factory=dict)

    @classmethod
    def of(cls, card: AgentCard, *, peer: VerifiedIdentity | None, token: TokenHolder | None) -> "ShownProofs":
        """Tell which of the card's schemes a certificate and a token are proofs of."""
        shown: dict[str, frozenset[str] | None] = {}
        for name, scheme in card.schemes.items():
            if scheme.kind is SchemeKind.MUTUAL_TLS and peer is not None and peer.proof == "x509-svid":
                shown[name] = None
            elif token is not None and _takes_token(scheme, token):
                shown[name] = token.claims.scopes
        return cls(shown)

    def meets(self, requirement: Requirement) -> bool:
        """Whether every scheme of `requirement` is shown, with every scope."""
        return self.lacks_only_scopes(requirement) and all(
            scopes <= held for name, scopes in requirement.schemes.items() if (held := self.schemes[name]) is not None
        )

    def lacks_only_scopes(self, requirement: Requirement) -> bool:
        """Whether every scheme is shown, and not every scope."""
        return all(name in self.schemes for name in requirement.schemes)


def require_met(card: AgentCard, skills: Iterable[str], shown: ShownProofs) -> None:
    """Check the card's requirements, and those of each of `skills`.

    Where a card asks for nothing there is nothing to check here; that a caller is known at all, enforcement asks first.

    Raises:
        InsufficientScopeError: another token of the same kind would do.
        RequirementNotMetError: another kind of proof is asked for.
    """
    wanted = {skill.id: skill.requirements for skill in card.skills}
    for alternatives in (card.requirements, *(wanted.get(skill, ()) for skill in skills)):
        if alternatives and not any(shown.meets(each) for each in alternatives):
            raise _refusal(alternatives, shown)


def _refusal(alternatives: tuple[Requirement, ...], shown: ShownProofs) -> Exception:
    near = [each for each in alternatives if shown.lacks_only_scopes(each)]
    if not near:
        named = " or ".join(" with ".join(sorted(each.schemes)) for each in alternatives)
        return RequirementNotMetError(f"card asks for {named[:200]}")
    limited = {name: held for name in near[0].schemes if (held := shown.schemes[name]) is not None}
    wanted = frozenset[str]().union(*(near[0].schemes[name] for name in limited))
    held = frozenset[str]().union(*limited.values())
    return InsufficientScopeError(wanted, held=held)


def _takes_token(scheme: Scheme, token: TokenHolder) -> bool:
    """An access token counts for OAuth 2.0, for OpenID Connect of its own issuer, and for HTTP's bearer and DPoP."""
    match scheme.kind:
        case SchemeKind.OAUTH2:
            return True
        case SchemeKind.OPENID_CONNECT:
            issuer = token.claims.issuer.rstrip("/")
            return str(scheme.members.get("openIdConnectUrl", "")).startswith(f"{issuer}/.well-known/")
        case SchemeKind.HTTP:
            return str(scheme.members.get("scheme", "")).lower() in ("bearer", "dpop")
        case _:
            return False
