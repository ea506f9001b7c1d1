"""What we let others do: each call is decided here, and recorded before anybody hears the answer.

No log, no act: an allow that has no receipt is withdrawn. A deny stands, recorded or not.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentshield.audit.call_events import CallDecided, PeerRefused
from agentshield.audit.event import AuditEvent
from agentshield.audit.log import Receipt
from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity
from agentshield.identity.x509_svid import check_leaf_profile, load_der_certificate
from agentshield.policy.engine import Decision, Effect
from agentshield.sdk.call_facts import CallFacts
from agentshield.sdk.caller import Caller
from agentshield.sdk.enforcement import LocalEnforcement, NodeEnforcement, NoEnforcement, allowed_callers
from agentshield.sdk.errors import CallDeniedError, DecisionUnrecordedError
from agentshield.sdk.pdp_question import Question
from agentshield.sdk.recorder import BackgroundRecorder
from agentshield.sdk.sources import X509Source
from agentshield.sdk.token_holder import TokenHolder
from agentshield.uuid7 import uuid7

_log = logging.getLogger("agentshield.sdk.decisions")


class Decisions:
    """Decides about calls to the agent whose SVID `source` holds."""

    def __init__(
        self, enforcement: NodeEnforcement | LocalEnforcement | NoEnforcement, source: X509Source, clock: Clock
    ) -> None:
        self._enforcement = enforcement
        self._source = source
        self._clock = clock
        self._background = BackgroundRecorder(self.record)

    async def aclose(self) -> None:
        """Stop, once what waits is recorded."""
        await self._background.aclose()
        await self._enforcement.aclose()

    def cut_off(self, spiffe_id: SpiffeId) -> str | None:
        """Name the reason for which an agent may do nothing at all now ("agent-suspended"), if there is one."""
        return self._enforcement.cut_off(spiffe_id)

    async def in_the_dark(self) -> str | None:
        """Name the reason for which nobody's standing is known now ("stale-lease"), if it should be."""
        await self._enforcement.ready(self._clock())
        return self._enforcement.in_the_dark(self._clock())

    async def decide(
        self, action: str, caller: VerifiedIdentity | TokenHolder, *, context: Mapping[str, Any] | None = None
    ) -> Decision:
        """Decide by policy whether `caller` may have us do `action`.

        Raises:
            DecisionUnrecordedError: it would be an allow, and the audit log has not got it.
        """
        await self._enforcement.ready(self._clock())
        own = self._source.spiffe_id
        decision = self._enforcement.pdp.decide(caller, action, callee=own, context=context, at=self._clock())
        await self._record_decision(decision, caller, action)
        return decision

    async def ask(
        self,
        question: str | Question,
        caller: VerifiedIdentity | TokenHolder,
        *,
        callee: SpiffeId,
        context: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Ask policy about a call to `callee`, a skill of it or another question, and record nothing.

        For who guards another agent, and must ask more than once about one call: `record_call` then records the answer.
        """
        await self._enforcement.ready(self._clock())
        at, pdp = self._clock(), self._enforcement.pdp
        if isinstance(question, str):
            return pdp.decide(caller, question, callee=callee, context=context, at=at)
        return pdp.decide_question(caller, question, callee=callee, context=context, at=at)

    def without_policy(self, effect: Effect, reason: str) -> Decision:
        """Make a decision for which policy was not asked."""
        return Decision(
            effect=effect,
            reasons=(reason,),
            errors=(),
            obligations=(),
            requestable=None,
            evaluation_id=str(uuid7(self._clock())),
            bundle_digest="",
            duration_us=0.0,
        )

    async def record_call(
        self, decision: Decision, caller: VerifiedIdentity | TokenHolder, call: CallFacts, *, trace: str | None = None
    ) -> Caller:
        """Record what was decided about a call to an agent that we guard, and return the `Caller` if it may.

        Raises:
            CallDeniedError: it may not.
            DecisionUnrecordedError: it may, and the audit log has not got it.
        """
        await self._record(decision, call.event(decision, caller, at=self._clock(), by=self._source.spiffe_id))
        return _admitted(decision, call.action, caller, trace)

    async def require(
        self,
        action: str,
        caller: VerifiedIdentity | TokenHolder,
        *,
        context: Mapping[str, Any] | None = None,
        trace: str | None = None,
    ) -> Caller:
        """Decide as `decide`, and return the `Caller` who may.

        Raises:
            CallDeniedError: it may not.
            DecisionUnrecordedError: as `decide`.
        """
        return _admitted(await self.decide(action, caller, context=context), action, caller, trace)

    async def require_without_policy(
        self,
        effect: Effect,
        reason: str,
        action: str,
        caller: VerifiedIdentity | TokenHolder,
        *,
        trace: str | None = None,
    ) -> Caller:
        """Record a decision that policy was not asked for, such as by a list of peers, and act on it as `require`.

        Raises:
            CallDeniedError, DecisionUnrecordedError: as `require`.
        """
        decision = self.without_policy(effect, reason)
        await self._record_decision(decision, caller, action)
        return _admitted(decision, action, caller, trace)

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        """Write events to the audit log, and return once they are durable.

        Raises:
            DecisionUnrecordedError: they are not known to be.
        """
        return await self._enforcement.recorder.record(*events)

    async def allowed_callers(self, actions: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """Tell, for people to read, which agents policy lets do each of `actions` here."""
        await self._enforcement.ready(self._clock())
        return allowed_callers(self._enforcement, self._source.spiffe_id, actions, at=self._clock())

    def peer_refused(self, chain: Sequence[bytes], error: Exception) -> None:
        """Leave a trace of who was turned away in the handshake; in a flood of them, of the first."""
        self._background.record(
            PeerRefused(
                at=self._clock(),
                enforcement_point=str(self._source.spiffe_id),
                service=str(self._source.spiffe_id),
                peer=_claimed_name(chain),
                proof="x509-svid",
                fingerprint=hashlib.sha256(chain[0]).hexdigest() if chain else "",
                reasons=(getattr(error, "code", "tls"),),
                detail=str(error),
            )
        )

    def token_refused(self, error: AgentShieldError) -> None:
        """Leave a trace of a token that was not believed; of whoever showed it, nothing is proved."""
        self._background.record(
            PeerRefused(
                at=self._clock(),
                enforcement_point=str(self._source.spiffe_id),
                service=str(self._source.spiffe_id),
                proof="access-token",
                reasons=(error.code,),
                detail=str(error),
            )
        )

    def call_flooded(self, caller: VerifiedIdentity | TokenHolder, call: CallFacts, error: AgentShieldError) -> None:
        """Leave a trace of a caller over its limit; in a flood of such calls, of the first."""
        decision = self.without_policy(Effect.DENY, error.code)
        self._background.record(call.event(decision, caller, at=self._clock(), by=self._source.spiffe_id))

    async def _record_decision(self, decision: Decision, caller: VerifiedIdentity | TokenHolder, action: str) -> None:
        own = self._source.spiffe_id
        call = CallFacts(callee=own, action="invoke", skill=action)
        await self._record(decision, call.event(decision, caller, at=self._clock(), by=own))

    async def _record(self, decision: Decision, event: CallDecided) -> None:
        try:
            await self.record(event)
        except DecisionUnrecordedError as error:
            if decision.is_allowed:
                raise
            _log.warning("a deny was not recorded: %s", error)


def _admitted(decision: Decision, action: str, caller: VerifiedIdentity | TokenHolder, trace: str | None) -> Caller:
    if not decision.is_allowed:
        raise CallDeniedError(caller.spiffe_id, action, reason=decision.reason, decision_id=decision.evaluation_id)
    return Caller(identity=caller, record_id=decision.evaluation_id, trace=trace)


def _claimed_name(chain: Sequence[bytes]) -> str:
    """The SPIFFE ID that a refused peer showed, for the log; nobody proved it."""
    try:
        return str(check_leaf_profile(load_der_certificate(chain[0]))) if chain else ""
    except AgentShieldError:
        return ""
