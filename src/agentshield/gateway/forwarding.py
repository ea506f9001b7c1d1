"""An admitted call on its way to the agent and back: asserted, and seen by enforcement before the caller sees it."""

import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from agentshield.a2a.enforcement import Admission, Enforcement
from agentshield.a2a.idempotency import FirstAnswer, Idempotency, MessageKey
from agentshield.a2a.memory_entries import EventReader
from agentshield.a2a.task_pages import list_owned
from agentshield.gateway.connection import AgentConnection, Assert
from agentshield.gateway.remembering import Remembering
from agentshield.identity.caller_assertion import AssertedCaller, sign_caller_assertion
from agentshield.sdk.a2a.once import ONCE_EXTENSION
from agentshield.sdk.a2a.operations import Operation
from agentshield.sdk.shield import Shield

CALLER_HEADER: Final = "agentshield-caller"
CHAIN_HEADER: Final = "agentshield-caller-chain"  # the gateway's certificates, DER in base64, leaf first, by commas


class Forwarding:
    """Sends admitted calls to the agent of `connection`, in the name of `shield`, the gateway."""

    def __init__(
        self,
        connection: AgentConnection,
        enforcement: Enforcement,
        shield: Shield,
        *,
        idempotency: Idempotency,
        remembering: Remembering,
    ) -> None:
        self._connection = connection
        self._enforcement = enforcement
        self._shield = shield
        self._idempotency = idempotency
        self._remembering = remembering
        self._reader = EventReader(agent=str(enforcement.agent.spiffe_id))

    async def ask(self, admission: Admission) -> Mapping[str, Any]:
        """Return what the caller may see of the agent's answer. Raises as `AgentConnection.ask`."""
        asserted, call = self._asserted(admission), admission.call
        if call.operation is Operation.LIST:
            return await list_owned(self._enforcement, admission, lambda page: self._connection.ask(page, asserted))
        if call.operation is Operation.SEND:
            return await self._send(admission, asserted)
        result = await self._connection.ask(call, asserted)
        if call.operation in (Operation.GET, Operation.CANCEL):
            task = await self._enforcement.seen_task(admission, result)
            self._remembering.keep(self._reader, admission, {"task": task})
            return task
        return self._enforcement.seen_other(admission, result)

    async def _send(self, admission: Admission, asserted: Assert) -> Mapping[str, Any]:
        """Hand a message to the agent; once, if the caller wants that: sent again it gets the first answer."""

        async def hand_over() -> Mapping[str, Any]:
            result = await self._connection.ask(admission.call, asserted)
            shown = await self._enforcement.seen(admission, result)
            self._remembering.keep(self._reader, admission, shown)
            return shown

        async def execute() -> FirstAnswer:
            shown = await hand_over()
            task = admission.task.task_id if admission.task is not None else ""
            return FirstAnswer(task_id=task, body=json.dumps(shown, ensure_ascii=False).encode())

        if ONCE_EXTENSION not in admission.call.extensions:
            return await hand_over()
        key = MessageKey(
            agent=str(self._enforcement.agent.spiffe_id),
            owner_key=admission.owner.key,
            message_id=admission.call.message_id or "",
        )
        answer, _ = await self._idempotency.once(key, admission.call.digest, execute)
        again: Mapping[str, Any] = json.loads(answer.body)
        return again

    async def events(self, admission: Admission) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield what the caller may see of the agent's stream."""
        async with aclosing(self._connection.events(admission.call, self._asserted(admission))) as events:
            async for event in events:
                shown = await self._enforcement.seen(admission, event)
                self._remembering.keep(self._reader, admission, shown)
                yield shown

    def _asserted(self, admission: Admission) -> Assert:
        caller = admission.caller
        asserted = AssertedCaller(
            spiffe_id=caller.identity.spiffe_id,
            issuer=caller.issuer,
            subject=caller.subject,
            chain=caller.chain,
            scopes=caller.scopes,
            proof=caller.proof,
            tenant=admission.owner.tenant,
            operation=admission.call.operation.value,
            skills=admission.skills,
            decision_id=admission.decision_id,
        )

        def headers(target: str, body: bytes) -> Mapping[str, str]:
            svid = self._shield.source.svid
            signed = sign_caller_assertion(
                svid,
                asserted,
                audience=str(self._enforcement.agent.spiffe_id),
                target=target,
                body=body,
                at=self._shield.clock(),
            )
            return {CALLER_HEADER: signed, CHAIN_HEADER: _encoded(svid.chain_der())}

        return headers


def _encoded(chain: bytes) -> str:
    return base64.b64encode(chain).decode()
