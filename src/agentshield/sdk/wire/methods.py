"""Every gRPC method that AgentShield serves or calls: its path, shape and message types, once for servers and clients.

The paths are what travels, so they are the standards' own: the Workload API has no package, and the calls of a
spire-agent have SPIRE's, whatever package our messages live in.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from grpclib.client import Channel
from grpclib.client import Stream as ClientStream
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream as ServerStream

from agentshield.sdk.wire import node_pb2, push_pb2, spire_pb2, workload_pb2

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Metadata = Mapping[str, str]

_UNARY = Cardinality.UNARY_UNARY
_SERVER_STREAM = Cardinality.UNARY_STREAM
_BOTH_STREAM = Cardinality.STREAM_STREAM


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(Generic[Request, Reply]):
    """One method of one service, as a value that both sides use."""

    path: str
    request: type[Request]
    reply: type[Reply]
    cardinality: Cardinality = _UNARY

    def handled_by(self, function: Callable[[ServerStream[Request, Reply]], Awaitable[None]]) -> tuple[str, Handler]:
        """Return the item of a grpclib `__mapping__` that lets `function` answer this method."""
        return self.path, Handler(function, self.cardinality, self.request, self.reply)

    def open(
        self, channel: Channel, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> ClientStream[Request, Reply]:
        """Return a call, to be entered with `async with`; `timeout` is in seconds, for the whole call."""
        return channel.request(
            self.path, self.cardinality, self.request, self.reply, timeout=timeout, metadata=metadata
        )

    async def call(
        self, channel: Channel, request: Request, *, timeout: float, metadata: Metadata | None = None
    ) -> Reply:
        """Ask once and return the one answer.

        Raises:
            grpclib.GRPCError: the server said no, or ended the call without an answer.
            OSError: no connection, or the TLS handshake failed.
            asyncio.TimeoutError: no answer within `timeout` seconds.
        """
        async with self.open(channel, timeout=timeout, metadata=metadata) as stream:
            await stream.send_message(request, end=True)
            reply = await stream.recv_message()
            await stream.recv_trailing_metadata()
        assert reply is not None, "an OK status of a unary call comes with a message"
        return reply


def _both(path: str, request: type[Request], reply: type[Reply]) -> Method[Request, Reply]:
    return Method(path=path, request=request, reply=reply, cardinality=_BOTH_STREAM)


def _server(path: str, request: type[Request], reply: type[Reply]) -> Method[Request, Reply]:
    return Method(path=path, request=request, reply=reply, cardinality=_SERVER_STREAM)


def _unary(path: str, request: type[Request], reply: type[Reply]) -> Method[Request, Reply]:
    return Method(path=path, request=request, reply=reply)


# SPIFFE Workload API 5.2, 6.2, 7.2 and its metadata (SPIFFE Workload Endpoint 4): every call carries exactly this.
WORKLOAD_METADATA: Metadata = {"workload.spiffe.io": "true"}
_W = "/SpiffeWorkloadAPI/"
FETCH_X509_SVID = _server(_W + "FetchX509SVID", workload_pb2.X509SVIDRequest, workload_pb2.X509SVIDResponse)
FETCH_X509_BUNDLES = _server(_W + "FetchX509Bundles", workload_pb2.X509BundlesRequest, workload_pb2.X509BundlesResponse)
FETCH_JWT_SVID = _unary(_W + "FetchJWTSVID", workload_pb2.JWTSVIDRequest, workload_pb2.JWTSVIDResponse)
FETCH_JWT_BUNDLES = _server(_W + "FetchJWTBundles", workload_pb2.JWTBundlesRequest, workload_pb2.JWTBundlesResponse)
VALIDATE_JWT_SVID = _unary(
    _W + "ValidateJWTSVID", workload_pb2.ValidateJWTSVIDRequest, workload_pb2.ValidateJWTSVIDResponse
)
FETCH_WIT_SVID = _server(_W + "FetchWITSVID", workload_pb2.WITSVIDRequest, workload_pb2.WITSVIDResponse)
FETCH_WIT_BUNDLES = _server(_W + "FetchWITBundles", workload_pb2.WITBundlesRequest, workload_pb2.WITBundlesResponse)

# The eight calls of a stock spire-agent (SPIRE 1.15).
_AGENT = "/spire.api.server.agent.v1.Agent/"
_BUNDLE = "/spire.api.server.bundle.v1.Bundle/"
_SVID = "/spire.api.server.svid.v1.SVID/"
ATTEST_AGENT = _both(_AGENT + "AttestAgent", spire_pb2.AttestAgentRequest, spire_pb2.AttestAgentResponse)
RENEW_AGENT = _unary(_AGENT + "RenewAgent", spire_pb2.RenewAgentRequest, spire_pb2.RenewAgentResponse)
POST_STATUS = _unary(_AGENT + "PostStatus", spire_pb2.PostStatusRequest, spire_pb2.PostStatusResponse)
SYNC_AUTHORIZED_ENTRIES = _both(
    "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries",
    spire_pb2.SyncAuthorizedEntriesRequest,
    spire_pb2.SyncAuthorizedEntriesResponse,
)
GET_BUNDLE = _unary(_BUNDLE + "GetBundle", spire_pb2.GetBundleRequest, spire_pb2.Bundle)
GET_FEDERATED_BUNDLE = _unary(_BUNDLE + "GetFederatedBundle", spire_pb2.GetFederatedBundleRequest, spire_pb2.Bundle)
BATCH_NEW_X509_SVID = _unary(
    _SVID + "BatchNewX509SVID", spire_pb2.BatchNewX509SVIDRequest, spire_pb2.BatchNewX509SVIDResponse
)
NEW_JWT_SVID = _unary(_SVID + "NewJWTSVID", spire_pb2.NewJWTSVIDRequest, spire_pb2.NewJWTSVIDResponse)

# Ours, from the authority to our node agents.
_PUSH = "/agentshield.push.v1.Push/"
WATCH_ENTRIES = _both(_PUSH + "WatchEntries", push_pb2.WatchEntriesRequest, push_pb2.EntriesUpdate)
WATCH_ENFORCEMENT = _both(_PUSH + "WatchEnforcement", push_pb2.EnforcementAck, node_pb2.Snapshot)
NEW_WIT_SVID = _unary(_PUSH + "NewWITSVID", push_pb2.NewWITSVIDRequest, push_pb2.NewWITSVIDResponse)
RECORD_EVENTS = _unary(_PUSH + "RecordEvents", node_pb2.RecordRequest, node_pb2.RecordResponse)

# Ours, on the socket of the Workload API.
_ENFORCEMENT = "/agentshield.node.v1.Enforcement/"
WATCH = _both(_ENFORCEMENT + "Watch", node_pb2.WatchRequest, node_pb2.Snapshot)
RECORD = _unary(_ENFORCEMENT + "Record", node_pb2.RecordRequest, node_pb2.RecordResponse)
REGISTER_LAUNCH = _unary("/agentshield.node.v1.Launch/Register", node_pb2.LaunchRequest, node_pb2.LaunchResponse)
EXPLAIN_PROCESS = _unary(
    "/agentshield.node.v1.Explain/ExplainProcess", node_pb2.ExplainRequest, node_pb2.ExplainResponse
)

ALL_METHODS: tuple[Method[Any, Any], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Method)
)
