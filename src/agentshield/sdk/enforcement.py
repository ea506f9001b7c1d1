"""May this caller do that here? Decided in this process, by what the authority pushes; recorded before the answer.

`NodeEnforcement` follows the node agent's enforcement service. A node agent without that service, such as SPIRE's,
pushes no policy: then every decision is a deny, unless the program brings a `LocalPolicy`. Nothing is ever allowed
because something is missing.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from agentshield.errors import AgentShieldError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.policy.cedar import CedarEngine
from agentshield.sdk.backoff import Backoff
from agentshield.sdk.enforcement_snapshot import AgentFacts, EnforcementSnapshot
from agentshield.sdk.errors import NotOfferedError
from agentshield.sdk.pdp import (
    AGENT_LOCKED,
    AGENT_SUSPENDED,
    NO_POLICY,
    STALE_LEASE,
    Pdp,
    call_request,
    plain_context,
)
from agentshield.sdk.recorder import LoggingRecorder, NodeRecorder
from agentshield.sdk.wire import methods, node_pb2
from agentshield.sdk.workload_api import FAULTS, WorkloadApiClient, explain_fault
from agentshield.signals.lease import Lease
from agentshield.signals.standing import AgentStanding, Standing

if TYPE_CHECKING:
    from agentshield.policy.bundle import PolicyBundle

FIRST_SNAPSHOT_WAIT: Final = 3.0  # seconds that the first decision waits for the first push
_LOCAL_LEASE: Final = timedelta(minutes=5)
_CUT_OFF: Final = {Standing.SUSPENDED: AGENT_SUSPENDED, Standing.LOCKED: AGENT_LOCKED}

_log = logging.getLogger("agentshield.sdk.enforcement")


class Enforcement(Protocol):
    """Where a shield gets its decisions and leaves its events."""

    pdp: Pdp
    recorder: NodeRecorder | LoggingRecorder

    async def ready(self, at: datetime) -> None:
        """Wait, not for long, until there is something to decide by."""
        ...

    def cut_off(self, spiffe_id: SpiffeId) -> str | None:
        """Name the reason for which an agent may do nothing at all now, such as its suspension."""
        ...

    async def aclose(self) -> None:
        """Stop, once what waits is recorded."""
        ...


class Decider:
    """A `Pdp` and the engine under it, with who is cut off at hand for every request."""

    def __init__(self) -> None:
        self.engine = CedarEngine()
        self.pdp = Pdp(self.engine)
        self._standing = AgentStanding()

    def apply(self, snapshot: EnforcementSnapshot) -> None:
        """Decide by `snapshot` from now on.

        Raises:
            AgentShieldError: as `Pdp.apply`.
        """
        self.pdp.apply(snapshot)
        self._standing = snapshot.standing()

    def cut_off(self, spiffe_id: SpiffeId) -> str | None:
        """Name the reason for which an agent may do nothing at all now."""
        standing = self._standing.find(str(spiffe_id))
        return _CUT_OFF.get(standing) if standing is not None else None

    def in_the_dark(self, at: datetime) -> str | None:  # noqa: ARG002  who is told nothing cannot miss anything
        """Name the reason for which nobody's standing is known now, if it should be."""
        return None


def allowed_callers(
    decider: Decider, callee: SpiffeId, actions: Iterable[str], *, at: datetime
) -> Mapping[str, tuple[str, ...]]:
    """Tell which agents could do each of `actions` at `callee` if they called now: by name, for people to read."""
    snapshot = decider.pdp.snapshot
    if snapshot is None:
        return dict.fromkeys(actions, ())
    facts = {agent.spiffe_id: agent for agent in snapshot.agents}
    own = facts.get(callee)
    callers = [each for each in snapshot.agents if each.spiffe_id != callee and each.status == Standing.ACTIVE.value]

    def may(caller: AgentFacts, action: str) -> bool:
        assert own is not None
        request = call_request(caller, action, callee=own, context=plain_context(at))
        return decider.engine.decide(request).is_allowed

    return {
        action: tuple(sorted(each.name for each in callers if own is not None and may(each, action)))
        for action in actions
    }


class NodeEnforcement(Decider):
    """Enforcement by a node agent of AgentShield: policy and standing pushed, events recorded in the audit log."""

    def __init__(self, client: WorkloadApiClient) -> None:
        super().__init__()
        self.recorder: NodeRecorder | LoggingRecorder = NodeRecorder(client)
        self.not_offered: NotOfferedError | None = None
        self._client = client
        self._first = asyncio.Event()
        self._task = asyncio.create_task(self._follow(), name="agentshield-enforcement")

    async def ready(self, at: datetime) -> None:  # noqa: ARG002  the protocol's; this one's world has its own clock
        """Wait for the first push; afterwards cost nothing."""
        if not self._first.is_set():
            try:
                async with asyncio.timeout(FIRST_SNAPSHOT_WAIT):
                    await self._first.wait()
            except TimeoutError:
                _log.warning("no policy arrived from the node agent within %gs", FIRST_SNAPSHOT_WAIT)
                self._first.set()  # wait once, then say no at once; the push still counts when it comes

    def in_the_dark(self, at: datetime) -> str | None:
        """Without a push, or past its lease, a suspension may have been missed."""
        if self.not_offered is not None:
            return None
        held = self.pdp.snapshot
        if held is None:
            return NO_POLICY
        return None if Lease(granted_at=held.issued_at, duration=held.lease).is_current(at) else STALE_LEASE

    async def aclose(self) -> None:
        """Stop following, once what waits is recorded."""
        await self.recorder.aclose()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _follow(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._watch(backoff)
                fault: AgentShieldError | None = None
            except FAULTS as error:
                fault = explain_fault(error, self._client.endpoint)
            except Exception:
                fault = None
                _log.exception("enforcement cannot be followed; decisions stop when the lease ends")
            # One that has pushed before offers it, whatever it says now; its audit log stays the one we record in.
            if isinstance(fault, NotOfferedError) and self.pdp.snapshot is None:
                _log.warning("this node agent pushes no policy: every decision is a deny")
                self.not_offered = fault
                self.recorder = LoggingRecorder()
                self._first.set()
                return
            await backoff.wait()

    async def _watch(self, backoff: Backoff) -> None:
        async with methods.WATCH.open(self._client.channel) as stream:
            held = self.pdp.snapshot
            await stream.send_message(node_pb2.WatchRequest(applied_version=held.version if held is not None else 0))
            async for message in stream:
                backoff.reset()
                if self._take(message):
                    await stream.send_message(node_pb2.WatchRequest(applied_version=message.version))

    def _take(self, message: node_pb2.Snapshot) -> bool:
        """Apply a push; only then may it be acknowledged. A bad one changes nothing, and the old lease runs out."""
        try:
            self.apply(EnforcementSnapshot.from_json(message.snapshot_json))
        except AgentShieldError as error:
            _log.error("policy version %d was not applied: %s", message.version, error)
            return False
        self._first.set()
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPolicy:
    """Policy that the program brings itself: its rules, and the agents they are about."""

    bundle: "PolicyBundle"
    agents: tuple[AgentFacts, ...]


class LocalEnforcement(Decider):
    """Enforcement by a `LocalPolicy`. Nobody can suspend an agent here, and events go to Python's logging."""

    def __init__(self, policy: LocalPolicy) -> None:
        super().__init__()
        self.recorder: NodeRecorder | LoggingRecorder = LoggingRecorder()
        self._policy = policy

    async def ready(self, at: datetime) -> None:
        """Renew the lease: a file that is part of the program does not go stale."""
        held = self.pdp.snapshot
        if held is None or at >= held.issued_at + _LOCAL_LEASE / 2:
            policy = self._policy
            self.apply(
                EnforcementSnapshot(
                    version=1, issued_at=at, lease=_LOCAL_LEASE, bundle=policy.bundle, agents=policy.agents
                )
            )

    async def aclose(self) -> None:
        """Nothing to stop."""


class NoEnforcement(Decider):
    """No policy at all: every decision is a deny, with the reason `no-policy`."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder: NodeRecorder | LoggingRecorder = LoggingRecorder()

    async def ready(self, at: datetime) -> None:
        """There is nothing to wait for."""

    async def aclose(self) -> None:
        """Nothing to stop."""
