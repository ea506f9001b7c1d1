"""The rules of `enforcement` inside a Python agent on `a2a-sdk` 1.x: around its request handler, whatever the binding.

    handler = shielded(DefaultRequestHandler(...), card)
    routes = create_jsonrpc_routes(handler, "/", context_builder=ShieldContextBuilder())
    app = ShieldMiddleware(Starlette(routes=[*create_agent_card_routes(card), *routes]), public=[CARD_PATH])

The SDK checks nothing of what a card asks for, keeps one caller's context open to all, and forgets the context where
only the task is named (docs/explain/a2a-enforcement.md).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import RequestHandler
from a2a.types import a2a_pb2
from a2a.utils import errors as sdk_errors
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message as ProtoMessage

from agentshield.a2a.enforcement import Admission, Enforcement, Visitor
from agentshield.a2a.guarded_agent import GuardedAgent
from agentshield.a2a.limits import CallLimits
from agentshield.a2a.owners import MemoryOwnerStore, OwnerStore
from agentshield.a2a.push_egress import PushEgress
from agentshield.a2a.requirements import ShownProofs
from agentshield.a2a.sdk_context import ShieldedCall, shielded_call
from agentshield.a2a.task_pages import list_owned
from agentshield.errors import AgentShieldError
from agentshield.identity.agent_card.card import AgentCard
from agentshield.sdk.a2a import errors
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.operations import Operation
from agentshield.sdk.a2a.requests import read_request
from agentshield.sdk.visit import Visit

P = TypeVar("P", bound=ProtoMessage)
R = TypeVar("R", bound=ProtoMessage)
T = TypeVar("T")

CARD_PATH: Final = "/.well-known/agent-card.json"
_EVENTS: Final[Mapping[type[Any], str]] = {
    a2a_pb2.Task: "task",
    a2a_pb2.Message: "message",
    a2a_pb2.TaskStatusUpdateEvent: "statusUpdate",
    a2a_pb2.TaskArtifactUpdateEvent: "artifactUpdate",
}

_IN_SDK: Final[tuple[tuple[type[AgentShieldError], type[sdk_errors.A2AError]], ...]] = (
    (errors.TaskNotFoundError, sdk_errors.TaskNotFoundError),
    (errors.VersionNotSupportedError, sdk_errors.VersionNotSupportedError),
    (errors.ExtensionRequiredError, sdk_errors.ExtensionSupportRequiredError),
    (errors.UnsupportedOperationError, sdk_errors.UnsupportedOperationError),
    (errors.PushNotSupportedError, sdk_errors.PushNotificationNotSupportedError),
    (errors.InvalidParamsError, sdk_errors.InvalidParamsError),
    (errors.A2ACallError, sdk_errors.InvalidRequestError),
    (errors.InvalidAgentAnswerError, sdk_errors.InvalidAgentResponseError),
)


class RefusedError(sdk_errors.A2AError):
    """A refusal that A2A has no code for: who calls is not known, or may not. The binding says it in its own way."""

    message = "Call not allowed"

    def __init__(self, refusal: AgentShieldError) -> None:
        super().__init__(self.message)
        self.refusal = refusal


def shielded(
    handler: RequestHandler,
    card: a2a_pb2.AgentCard,
    *,
    owners: OwnerStore | None = None,
    limits: CallLimits | None = None,
    egress: PushEgress | None = None,
) -> "ShieldedHandler":
    """Put the rules around `handler`, by what `card` asks for.

    Without `owners`, whose tasks are is kept in memory: with the process it is forgotten, and so are rights to them.
    `egress` says where events may be sent: to the public internet, unless told.

    Raises:
        InvalidCardError: the card is none that can be read in one way only.
    """
    return ShieldedHandler(handler, AgentCard.of(MessageToDict(card)), owners or MemoryOwnerStore(), limits, egress)


class ShieldedHandler(RequestHandler):
    """See `shielded`."""

    def __init__(
        self,
        inner: RequestHandler,
        card: AgentCard,
        owners: OwnerStore,
        limits: CallLimits | None = None,
        egress: PushEgress | None = None,
    ) -> None:
        self._inner = inner
        self._card = card
        self._owners = owners
        self._limits = limits
        self._egress = egress
        self._enforcement: Enforcement | None = None

    async def on_message_send(
        self, params: a2a_pb2.SendMessageRequest, context: ServerCallContext
    ) -> a2a_pb2.Task | a2a_pb2.Message:
        """Send a message."""
        admission, changed = await self._admit(Operation.SEND, params, context)
        result = await self._inner.on_message_send(changed, context)
        kind = "task" if isinstance(result, a2a_pb2.Task) else "message"
        visit = shielded_call(context).visit
        event = await _told(visit, self._guard(visit).seen(admission, {kind: MessageToDict(result)}))
        return ParseDict(dict(event[kind]), type(result)())

    async def on_message_send_stream(
        self, params: a2a_pb2.SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        """Send a message, and follow what becomes of it."""
        admission, changed = await self._admit(Operation.STREAM, params, context)
        async for event in self._followed(admission, self._inner.on_message_send_stream(changed, context), context):
            yield event

    async def on_subscribe_to_task(
        self, params: a2a_pb2.SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        """Follow a task."""
        admission, changed = await self._admit(Operation.SUBSCRIBE, params, context)
        async for event in self._followed(admission, self._inner.on_subscribe_to_task(changed, context), context):
            yield event

    async def on_get_task(self, params: a2a_pb2.GetTaskRequest, context: ServerCallContext) -> a2a_pb2.Task | None:
        """Read a task."""
        admission, changed = await self._admit(Operation.GET, params, context)
        return await self._task(admission, await self._inner.on_get_task(changed, context), context)

    async def on_cancel_task(
        self, params: a2a_pb2.CancelTaskRequest, context: ServerCallContext
    ) -> a2a_pb2.Task | None:
        """Cancel a task."""
        admission, changed = await self._admit(Operation.CANCEL, params, context)
        return await self._task(admission, await self._inner.on_cancel_task(changed, context), context)

    async def on_list_tasks(
        self, params: a2a_pb2.ListTasksRequest, context: ServerCallContext
    ) -> a2a_pb2.ListTasksResponse:
        """List the caller's tasks."""
        admission, _ = await self._admit(Operation.LIST, params, context)

        async def ask(call: A2ACall) -> Mapping[str, Any]:
            request = ParseDict(dict(call.members), a2a_pb2.ListTasksRequest())
            return MessageToDict(await self._inner.on_list_tasks(request, context))

        visit = shielded_call(context).visit
        page = await _told(visit, list_owned(self._guard(visit), admission, ask))
        return ParseDict(dict(page), a2a_pb2.ListTasksResponse())

    async def on_create_task_push_notification_config(
        self, params: a2a_pb2.TaskPushNotificationConfig, context: ServerCallContext
    ) -> a2a_pb2.TaskPushNotificationConfig:
        """Have a task's events sent somewhere."""
        return await self._plain(
            Operation.CREATE_PUSH, params, context, self._inner.on_create_task_push_notification_config
        )

    async def on_get_task_push_notification_config(
        self, params: a2a_pb2.GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> a2a_pb2.TaskPushNotificationConfig:
        """Read where a task's events are sent."""
        return await self._plain(Operation.GET_PUSH, params, context, self._inner.on_get_task_push_notification_config)

    async def on_list_task_push_notification_configs(
        self, params: a2a_pb2.ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> a2a_pb2.ListTaskPushNotificationConfigsResponse:
        """List where a task's events are sent."""
        return await self._plain(
            Operation.LIST_PUSH, params, context, self._inner.on_list_task_push_notification_configs
        )

    async def on_delete_task_push_notification_config(
        self, params: a2a_pb2.DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        """Send a task's events there no more."""
        _, changed = await self._admit(Operation.DELETE_PUSH, params, context)
        await self._inner.on_delete_task_push_notification_config(changed, context)

    async def on_get_extended_agent_card(
        self, params: a2a_pb2.GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> a2a_pb2.AgentCard:
        """Show the card that is not for everybody."""
        _, changed = await self._admit(Operation.EXTENDED_CARD, params, context)
        return await self._inner.on_get_extended_agent_card(changed, context)

    async def _admit(self, operation: Operation, params: P, context: ServerCallContext) -> tuple[Admission, P]:
        """Decide about the call; return it as the agent is to see it."""
        shown = shielded_call(context)
        admission = await _told(shown.visit, self._decided(operation, params, context, shown))
        shown.visit.caller = admission.caller
        return admission, ParseDict(dict(admission.call.members), type(params)())

    async def _decided(
        self, operation: Operation, params: ProtoMessage, context: ServerCallContext, shown: ShieldedCall
    ) -> Admission:
        written = MessageToDict(params)
        call = A2ACall(
            operation=operation,
            binding=shown.binding(context),
            members=read_request(operation, {**written, **({"tenant": context.tenant} if context.tenant else {})}),
            version=shown.version,
            extensions=frozenset(context.requested_extensions),
        )
        visit = shown.visit
        proofs = ShownProofs.of(self._card, peer=visit.peer, token=visit.token)
        return await self._guard(visit).admit(call, Visitor(who=visit.who, shown=proofs, trace=visit.trace))

    async def _task(
        self, admission: Admission, task: a2a_pb2.Task | None, context: ServerCallContext
    ) -> a2a_pb2.Task | None:
        if task is None:
            return None
        visit = shielded_call(context).visit
        seen = await _told(visit, self._guard(visit).seen_task(admission, MessageToDict(task)))
        return ParseDict(dict(seen), a2a_pb2.Task())

    async def _plain(
        self, operation: Operation, params: P, context: ServerCallContext, ask: Callable[[P, Any], Awaitable[R]]
    ) -> R:
        admission, changed = await self._admit(operation, params, context)
        result = await ask(changed, context)
        shown = self._guard(shielded_call(context).visit).seen_other(admission, MessageToDict(result))
        answer: R = ParseDict(dict(shown), type(result)())
        return answer

    async def _followed(
        self, admission: Admission, events: AsyncIterator[Any], context: ServerCallContext
    ) -> AsyncGenerator[Any]:
        """Yield events while the caller may have them; on each it is asked again."""
        visit = shielded_call(context).visit
        guard = self._guard(visit)
        with guard.meter.stream(admission.owner.key):
            async for event in events:
                kind = _EVENTS[type(event)]
                await _told(visit, guard.require_still(admission))
                seen = await _told(visit, guard.seen(admission, {kind: MessageToDict(event)}))
                yield ParseDict(dict(seen[kind]), type(event)())

    def _guard(self, visit: Visit) -> Enforcement:
        """The agent is whoever its shield is, which the first call tells."""
        if self._enforcement is None:
            shield = visit.shield
            agent = GuardedAgent.of(shield.spiffe_id, self._card)
            self._enforcement = Enforcement(agent, shield, self._owners, limits=self._limits, egress=self._egress)
        return self._enforcement


async def _told(visit: Visit, asked: Awaitable[T]) -> T:
    """Turn a refusal into the SDK's error of the same meaning; one it has no word for is told by HTTP or gRPC."""
    try:
        return await asked
    except AgentShieldError as refusal:
        for ours, theirs in _IN_SDK:
            if isinstance(refusal, ours):
                visit.tell(refusal)  # JSON-RPC tells it with status 200
                raise theirs from refusal
        visit.refusal = refusal
        raise RefusedError(refusal) from refusal
