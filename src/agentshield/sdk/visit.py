"""One request behind the door: who sent it, what was decided about it, and whether that still holds."""

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agentshield.errors import AgentShieldError
from agentshield.identity.verify import VerifiedIdentity
from agentshield.policy.engine import Effect
from agentshield.sdk.caller import Caller
from agentshield.sdk.errors import CallDeniedError, CallerUnknownError, DecisionUnrecordedError
from agentshield.sdk.shield import Shield
from agentshield.sdk.token_errors import InsufficientScopeError, TokenMissingError, TokenRefusedError
from agentshield.sdk.token_holder import TokenHolder

if TYPE_CHECKING:
    from agentshield.sdk.access_tokens import TokenVerifier
    from agentshield.sdk.protected_resource import ProtectedResource

PEER: Final = "agentshield.peer"  # in the scope: the VerifiedIdentity of the connection, or None
VISIT: Final = "agentshield.visit"  # in the scope, behind the door: a Visit
NO_DECISION: Final = "no-decision"  # of a refusal because the application asked for none
INSUFFICIENT_SCOPE: Final = "insufficient-scope"  # of a refusal because the token does not reach this far
REFUSALS: Final = (
    CallDeniedError,
    CallerUnknownError,
    DecisionUnrecordedError,
    TokenRefusedError,
    InsufficientScopeError,
)


@dataclass(slots=True, kw_only=True)
class Visit:
    """One request behind the door: whose, and what was decided about it.

    `peer` is whom TLS proved, `token` whom a token did; one of them is there. `caller` is there once a decision lets it
    in and is recorded, `refusal` once one does not. While a decision is under way there is neither.
    """

    shield: Shield
    peer: VerifiedIdentity | None
    trace: str | None
    tokens: "TokenVerifier | None" = None
    token: TokenHolder | None = None
    caller: Caller | None = None
    refusal: AgentShieldError | None = None
    is_told: bool = False

    @property
    def who(self) -> VerifiedIdentity | TokenHolder:
        """Who calls: the holder of the token, if one came, as it says more."""
        who = self.token or self.peer
        assert who is not None, "nobody is let through the door without an identity"
        return who

    @property
    def resource(self) -> "ProtectedResource | None":
        """What we are to clients with tokens, if we take any."""
        return self.tokens.resource if self.tokens is not None else None

    async def decided(self, decision: Awaitable[Caller]) -> Caller:
        """Wait for a decision, and remember it; a refusal takes back nothing that another one allowed."""
        try:
            self.caller = await decision
        except REFUSALS as refusal:
            self.refusal = refusal
            raise
        return self.caller

    def tell(self, refusal: AgentShieldError) -> None:
        """Take note of a refusal that the application tells in a protocol whose errors are not HTTP's: status 200.

        JSON-RPC is one. Whoever calls this answers with the error and with nothing else.
        """
        self.refusal, self.is_told = refusal, True

    def verify_again(self) -> None:
        """Hold every proof against today's trust; looks into dictionaries while nothing has changed.

        Raises:
            CallerUnknownError, TokenRefusedError, RevocationsUnknownError: one does not hold any more.
        """
        if self.peer is not None:
            try:
                self.shield.verify_peer(self.peer)
            except AgentShieldError as error:
                raise CallerUnknownError(str(error)) from error
        if self.token is not None and self.tokens is not None:
            self.tokens.verify_again(self.token)

    def cut_off(self) -> str | None:
        """Name the reason for which the caller, or an agent it acts through or for, may do nothing now."""
        agents = [self.who.spiffe_id, *(self.token.agents if self.token is not None else ())]
        reasons = (self.shield.decisions.cut_off(agent) for agent in agents)
        return next((reason for reason in reasons if reason is not None), None)


async def authorized_caller(
    scope: Mapping[str, Any], action: str, resource: str | None = None, *, scopes: Iterable[str] = ()
) -> Caller:
    """Decide whether whoever made this request may do `action`, and return who it is.

    The skill that policy is asked about is `action`, or `action:resource`. With `scopes`, the request must come with a
    token that has every one of them; policy is asked all the same.

    Raises:
        CallerUnknownError: the application is not behind `ShieldMiddleware`.
        TokenMissingError, InsufficientScopeError: there is no token, or none that reaches this far.
        CallDeniedError: the caller may not.
        DecisionUnrecordedError: it may, and the audit log has not got it.
    """
    visit = scope.get(VISIT)
    if not isinstance(visit, Visit):
        raise CallerUnknownError("this application is not behind ShieldMiddleware")
    skill = action if resource is None else f"{action}:{resource}"
    return await visit.decided(_decision(visit, skill, frozenset(scopes)))


async def decide_without_policy(visit: Visit, effect: Effect, reason: str, action: str) -> None:
    """Record a decision that policy was not asked for; raise if it is a deny.

    Raises:
        CallDeniedError: it is.
        DecisionUnrecordedError: it is an allow, and the audit log has not got it.
    """
    await visit.decided(
        visit.shield.decisions.require_without_policy(effect, reason, action, visit.who, trace=visit.trace)
    )


async def _decision(visit: Visit, skill: str, scopes: frozenset[str]) -> Caller:
    decisions = visit.shield.decisions
    if scopes:
        await _require_scopes(visit, skill, scopes)
    return await decisions.require(skill, visit.who, context=token_context(visit.who), trace=visit.trace)


async def _require_scopes(visit: Visit, skill: str, scopes: frozenset[str]) -> None:
    """An SVID has no scopes: whoever must show some shows a token."""
    if visit.token is None:
        raise TokenMissingError(f"{skill} needs a token with scope {' '.join(sorted(scopes))!a}, and none came")
    held = visit.token.claims.scopes
    if scopes <= held:
        return
    try:
        await visit.shield.decisions.require_without_policy(
            Effect.DENY, INSUFFICIENT_SCOPE, skill, visit.token, trace=visit.trace
        )
    except CallDeniedError as denied:
        raise InsufficientScopeError(scopes, held=held, decision_id=denied.decision_id) from denied


def token_context(who: VerifiedIdentity | TokenHolder) -> Mapping[str, Any] | None:
    """What policy may know of a token: its scopes, and on whose behalf and through whom the call came."""
    if not isinstance(who, TokenHolder):
        return None
    actors = who.claims.act_chain.actors
    return {
        "scopes": sorted(who.claims.scopes),
        "delegation": {
            "depth": len(actors),
            "root": who.claims.subject,
            "chain": sorted({party.subject for party in actors}),
        },
    }
