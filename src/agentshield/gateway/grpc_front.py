"""The gRPC binding of the gateway: the same calls, by HTTP/2 and protobuf, and the same rules.

gRPC has no paths of its own: with several agents behind one address, a card's interface names its agent as the tenant.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Final

from grpclib.const import Cardinality, Handler, Status
from grpclib.server import Stream

from agentshield.a2a.enforcement import Admission
from agentshield.a2a.sdk_messages import ANSWERS, REQUESTS, answer_of, error_info, members_of
from agentshield.errors import AgentShieldError
from agentshield.gateway.following import followed
from agentshield.gateway.front import visitor_of
from agentshield.gateway.guarded_route import GuardedRoute
from agentshield.policy.engine import Effect
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.errors import UnknownOperationError
from agentshield.sdk.a2a.operations import (
    EXTENSIONS_HEADER,
    GRPC_SERVICE,
    VERSION_HEADER,
    Binding,
    Operation,
)
from agentshield.sdk.a2a.requests import read_request
from agentshield.sdk.a2a.wire_errors import DECISION_HEADER, fault_of
from agentshield.sdk.errors import CallerUnknownError
from agentshield.sdk.presented_token import PresentedToken
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates, SpiffeContext, peer_of
from agentshield.sdk.token_errors import TokenMissingError
from agentshield.sdk.visit import Visit, decide_without_policy
from agentshield.sdk.wire.guard import ConnectionLimits, GuardedProtocol, request_of, transport_of

_log = logging.getLogger("agentshield.gateway")

_HANDSHAKE_SECONDS: Final = 10.0
_STREAMS_LAST: Final = 24 * 3600.0  # seconds: a connection ends later than any task that is followed on it


class GrpcFront:
    """Serves `A2AService` for `routes`, by name, as `shield`."""

    def __init__(self, routes: Mapping[str, GuardedRoute], shield: Shield, *, address: str) -> None:
        self._routes = routes
        self._shield = shield
        self._address = address
        self._context: SpiffeContext | None = None

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Listen inside the block, and yield the port."""
        self._context = self._shield.server_tls(client_certificates=ClientCertificates.OPTIONAL, alpn=("h2",))
        limits = ConnectionLimits(age=_STREAMS_LAST)
        open_ones: set[GuardedProtocol] = set()
        server = await asyncio.get_running_loop().create_server(
            lambda: GuardedProtocol(self._mapping(), limits, on_made=open_ones.add, on_lost=open_ones.discard),
            host,
            port,
            ssl=self._context,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
        )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for each in list(open_ones):
                each.abort()
            await asyncio.gather(*(each.ended() for each in list(open_ones)))

    def _mapping(self) -> dict[str, Handler]:
        return {
            f"/{GRPC_SERVICE}/{operation.value}": Handler(
                _Method(self, operation).serve,
                Cardinality.UNARY_STREAM if operation.is_streaming else Cardinality.UNARY_UNARY,
                REQUESTS[operation],
                ANSWERS[operation],
            )
            for operation in Operation
        }

    async def serve(self, operation: Operation, stream: Stream[Any, Any]) -> None:
        """Serve one call."""
        try:
            members = members_of(await request_of(stream))
            route, members = self._route(members)
            visit = await self._visit(stream, route, operation)
            metadata = _metadata(stream)
            call = A2ACall(
                operation=operation,
                binding=Binding.GRPC,
                members=read_request(operation, members),
                version=metadata.get(VERSION_HEADER, ""),
                extensions=frozenset(
                    each.strip() for each in metadata.get(EXTENSIONS_HEADER, "").split(",") if each.strip()
                ),
            )
            admission = await route.enforcement.admit(call, visitor_of(visit, route.enforcement))
            visit.caller = admission.caller
            if operation.is_streaming:
                await self._stream(route, admission, visit, stream)
            else:
                await stream.send_message(answer_of(operation, await route.forwarding.ask(admission)))
        except AgentShieldError as error:
            await _refuse(stream, error)

    def _route(self, members: dict[str, Any]) -> tuple[GuardedRoute, dict[str, Any]]:
        if len(self._routes) == 1:
            return next(iter(self._routes.values())), members
        route = self._routes.get(str(members.get("tenant", "")))
        if route is None:
            raise UnknownOperationError("the tenant names no agent")
        return route, {name: value for name, value in members.items() if name != "tenant"}

    async def _visit(self, stream: Stream[Any, Any], route: GuardedRoute, operation: Operation) -> Visit:
        """Who calls: asked for each call, since a connection outlives standings and authorities."""
        assert self._context is not None
        peer = peer_of(transport_of(stream))
        visit = Visit(
            shield=self._shield,
            peer=None if peer is None else self._context.verify_again(peer),
            trace=_metadata(stream).get("traceparent"),
            tokens=route.tokens,
        )
        if route.tokens is not None:
            await route.tokens.open(self._shield)
            presented = self._presented(stream, operation)
            if presented is not None:
                visit.token = await route.tokens.verify(presented, peer=visit.peer)
        if visit.peer is None and visit.token is None:
            raise CallerUnknownError if route.tokens is None else TokenMissingError("neither SVID nor token")
        if (reason := visit.cut_off()) is not None:
            await decide_without_policy(visit, Effect.DENY, reason, operation.value)
        return visit

    def _presented(self, stream: Stream[Any, Any], operation: Operation) -> PresentedToken | None:
        """A token in the metadata; a DPoP proof of it is for gRPC's own path (RFC 9449, 4.2)."""
        path = f"/{GRPC_SERVICE}/{operation.value}"
        pairs = [(str(name).encode(), str(value).encode()) for name, value in (stream.metadata or {}).items()]
        scope = {"method": "POST", "path": path, "headers": pairs}
        return PresentedToken.of_request(scope, url=f"https://{self._address}{path}")

    async def _stream(self, route: GuardedRoute, admission: Admission, visit: Visit, stream: Stream[Any, Any]) -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # grpclib cancels us instead
        with ExitStack() as stack:
            stack.enter_context(route.enforcement.meter.stream(admission.owner.key))
            events = route.forwarding.events(admission)
            first = await anext(events, None)
            async for event in followed(first, events, route.enforcement, admission, visit, gone):
                if event is not None:
                    await stream.send_message(answer_of(admission.call.operation, event))


class _Method:
    """One of the eleven, as grpclib calls it."""

    def __init__(self, front: GrpcFront, operation: Operation) -> None:
        self._front = front
        self._operation = operation

    async def serve(self, stream: Stream[Any, Any]) -> None:
        """Serve one call."""
        await self._front.serve(self._operation, stream)


def _metadata(stream: Stream[Any, Any]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in (stream.metadata or {}).items()}


async def _refuse(stream: Stream[Any, Any], error: AgentShieldError) -> None:
    _log.info("refused: %s", error)
    fault = fault_of(error)
    await stream.send_trailing_metadata(
        status=Status(fault.grpc),
        status_message=fault.message,
        status_details=[error_info(fault)],
        metadata={} if error.decision_id is None else {DECISION_HEADER: error.decision_id},
    )
