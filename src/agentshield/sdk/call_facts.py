"""What the audit log is told about one call."""

from dataclasses import dataclass
from datetime import datetime

from agentshield.audit.call_events import CallDecided
from agentshield.audit.ocsf import Decision as Answer
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity
from agentshield.policy.engine import Decision
from agentshield.sdk.caller import Caller
from agentshield.sdk.token_holder import TokenHolder


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """Who was called, for what, and about which task."""

    callee: SpiffeId
    action: str
    skill: str = ""
    task_id: str = ""
    context_id: str = ""
    message_id: str = ""
    card_digest: str = ""

    def event(
        self, decision: Decision, caller: VerifiedIdentity | TokenHolder, *, at: datetime, by: SpiffeId
    ) -> CallDecided:
        """Return the event for `decision`, taken at the enforcement point `by`."""
        return CallDecided(
            at=at,
            event_id=decision.evaluation_id,
            enforcement_point=str(by),
            caller=str(caller.spiffe_id),
            callee=str(self.callee),
            action=self.action,
            skill=self.skill,
            decision=Answer(decision.effect.value),
            reasons=decision.reasons or (decision.reason,),
            evaluation_id=decision.evaluation_id,
            bundle_digest=decision.bundle_digest,
            duration_us=round(decision.duration_us),
            task_id=self.task_id,
            context_id=self.context_id,
            message_id=self.message_id,
            card_digest=self.card_digest,
            credential=_credential(caller),
            gateway="" if by == self.callee else str(by),
            chain=Caller(identity=caller).chain if isinstance(caller, TokenHolder) else (),
        )


def _credential(caller: VerifiedIdentity | TokenHolder) -> str:
    """What the caller showed, by a name that gives none of it away."""
    return caller.claims.jti if isinstance(caller, TokenHolder) else Caller(identity=caller).binding or ""
