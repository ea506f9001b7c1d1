"""An asyncio client of the SPIFFE Workload API: X.509, JWT and WIT profiles, on a Unix socket or TCP.

It works with any node agent that serves the standard's API. `fetch_…` asks once and raises. `watch_…` never gives up
while the fault may pass: it yields each new state, yields an `Outage` when there is a fault, and connects again.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.exceptions import ProtocolError, StreamTerminatedError

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.jwk import InvalidJwkError, private_key_of
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.strict_json import parse_json_object
from agentshield.identity.wit_svid import WitSvid
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.backoff import Backoff
from agentshield.sdk.endpoint import Endpoint
from agentshield.sdk.errors import (
    NoIdentityError,
    NotOfferedError,
    WorkloadApiRefusedError,
    WorkloadApiUnavailableError,
)
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import workload_pb2 as pb
from agentshield.sdk.wire.methods import Method
from agentshield.sdk.x509_context import Outage, X509Context

DEFAULT_DEADLINE: Final = 10.0  # seconds

T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtValidation:
    """What the node agent read in a JWT-SVID that it found valid."""

    spiffe_id: SpiffeId
    claims: Mapping[str, Any]


class WorkloadApiClient:
    """One connection to a node agent, opened when first needed and again whenever it breaks."""

    def __init__(self, endpoint: Endpoint, *, deadline: float = DEFAULT_DEADLINE) -> None:
        self.endpoint = endpoint
        self._deadline = deadline
        self._channel: Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every call and the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @property
    def channel(self) -> Channel:
        """The gRPC channel, which the node agent's other services on this socket use too."""
        if self._channel is None:
            self._channel = Channel(host=self.endpoint.host, port=self.endpoint.port, path=self.endpoint.path)
        return self._channel

    async def fetch_x509_context(self) -> X509Context:
        """Ask for our X509-SVIDs and the bundles that go with them.

        Raises:
            NoIdentityError, WorkloadApiUnavailableError: worth trying again.
            WorkloadApiRefusedError, NotOfferedError: not worth it.
            InvalidSvidError, InvalidBundleError: the answer breaks the standard.
        """
        return await self._first(methods.FETCH_X509_SVID, pb.X509SVIDRequest(), _x509_context)

    def watch_x509_contexts(self) -> AsyncGenerator[X509Context | Outage]:
        """Follow our X509-SVIDs and bundles.

        Raises:
            WorkloadApiRefusedError, NotOfferedError: asking again would not help.
        """
        return self._watch(methods.FETCH_X509_SVID, pb.X509SVIDRequest(), _x509_context)

    async def fetch_x509_bundles(self) -> BundleSet:
        """Ask for the X.509 bundles alone, as a process needs that only verifies.

        Raises:
            AgentShieldError: as `fetch_x509_context`.
        """
        return await self._first(methods.FETCH_X509_BUNDLES, pb.X509BundlesRequest(), _x509_bundles)

    def watch_x509_bundles(self) -> AsyncGenerator[BundleSet | Outage]:
        """Follow the X.509 bundles.

        Raises:
            AgentShieldError: as `watch_x509_contexts`.
        """
        return self._watch(methods.FETCH_X509_BUNDLES, pb.X509BundlesRequest(), _x509_bundles)

    async def fetch_jwt_svids(self, audience: Sequence[str], *, subject: SpiffeId | None = None) -> tuple[JwtSvid, ...]:
        """Ask for JWT-SVIDs for `audience`: of `subject`, or of each identity we have, the default one first.

        Raises:
            AgentShieldError: as `fetch_x509_context`.
        """
        request = pb.JWTSVIDRequest(audience=list(audience), spiffe_id=str(subject) if subject is not None else "")
        reply = await self._call(methods.FETCH_JWT_SVID, request)
        if not reply.svids:
            raise NoIdentityError
        return tuple(JwtSvid.unsafe_from_own_agent(each.svid, hint=each.hint or None) for each in reply.svids)

    async def fetch_jwt_bundles(self) -> BundleSet:
        """Ask for the JWT bundles.

        Raises:
            AgentShieldError: as `fetch_x509_context`.
        """
        return await self._first(methods.FETCH_JWT_BUNDLES, pb.JWTBundlesRequest(), _jwt_bundles)

    def watch_jwt_bundles(self) -> AsyncGenerator[BundleSet | Outage]:
        """Follow the JWT bundles.

        Raises:
            AgentShieldError: as `watch_x509_contexts`.
        """
        return self._watch(methods.FETCH_JWT_BUNDLES, pb.JWTBundlesRequest(), _jwt_bundles)

    async def fetch_wit_svids(self, *, subject: SpiffeId | None = None) -> tuple[WitSvid, ...]:
        """Ask for WIT-SVIDs and their keys: of `subject`, or of each identity we have, the default one first.

        Raises:
            AgentShieldError: as `fetch_x509_context`.
        """
        return await self._first(methods.FETCH_WIT_SVID, _wit_request(subject), _wit_svids)

    def watch_wit_svids(self, *, subject: SpiffeId | None = None) -> AsyncGenerator[tuple[WitSvid, ...] | Outage]:
        """Follow our WIT-SVIDs; each comes with a new key.

        Raises:
            AgentShieldError: as `watch_x509_contexts`.
        """
        return self._watch(methods.FETCH_WIT_SVID, _wit_request(subject), _wit_svids)

    async def fetch_wit_bundles(self) -> BundleSet:
        """Ask for the WIT bundles.

        Raises:
            AgentShieldError: as `fetch_x509_context`.
        """
        return await self._first(methods.FETCH_WIT_BUNDLES, pb.WITBundlesRequest(), _wit_bundles)

    async def validate_jwt_svid(self, token: str, *, audience: str) -> JwtValidation:
        """Let the node agent validate a token, where we hold no bundles ourselves.

        Raises:
            WorkloadApiRefusedError: the token is not valid, or not for `audience`.
            AgentShieldError: as `fetch_x509_context`.
        """
        reply = await self._call(methods.VALIDATE_JWT_SVID, pb.ValidateJWTSVIDRequest(audience=audience, svid=token))
        return JwtValidation(spiffe_id=SpiffeId.parse(reply.spiffe_id), claims=MessageToDict(reply.claims))

    async def _call(self, method: Method[Request, Reply], request: Request) -> Reply:
        try:
            async with asyncio.timeout(self._deadline):  # grpclib's own covers the call, not the connect before it
                return await method.call(
                    self.channel, request, timeout=self._deadline, metadata=methods.WORKLOAD_METADATA
                )
        except FAULTS as error:
            raise explain_fault(error, self.endpoint) from error

    async def _first(self, method: Method[Request, Reply], request: Request, read: Callable[[Reply], T]) -> T:
        try:
            async with asyncio.timeout(self._deadline), aclosing(self._replies(method, request)) as replies:
                async for reply in replies:
                    return read(reply)
        except TimeoutError as error:
            raise explain_fault(error, self.endpoint) from error
        raise WorkloadApiUnavailableError(self.endpoint, "the stream ended without an answer")

    async def _watch(
        self, method: Method[Request, Reply], request: Request, read: Callable[[Reply], T]
    ) -> AsyncGenerator[T | Outage]:
        backoff = Backoff()
        while True:
            try:
                async with aclosing(self._replies(method, request)) as replies:
                    async for reply in replies:
                        yield _read_or_outage(reply, read)
                        backoff.reset()
                outage: AgentShieldError = WorkloadApiUnavailableError(self.endpoint, "the stream ended")
            except UnavailableError as error:
                outage = error
            yield Outage(outage)
            await backoff.wait()

    async def _replies(self, method: Method[Request, Reply], request: Request) -> AsyncGenerator[Reply]:
        try:
            async with method.open(self.channel, metadata=methods.WORKLOAD_METADATA) as stream:
                await stream.send_message(request, end=True)
                async for reply in stream:
                    yield reply
        except FAULTS as error:
            raise explain_fault(error, self.endpoint) from error


FAULTS: Final = (GRPCError, StreamTerminatedError, ProtocolError, OSError, TimeoutError)


def explain_fault(error: Exception, endpoint: Endpoint) -> AgentShieldError:
    """Turn what grpclib raised into an error of ours (SPIFFE Workload Endpoint 6: which are worth a retry)."""
    match error:
        case GRPCError(status=Status.PERMISSION_DENIED):
            return NoIdentityError(error.message or "no identity issued")
        case GRPCError(status=Status.INVALID_ARGUMENT):
            return WorkloadApiRefusedError(f"Workload API at {endpoint} refused the request: {error.message}")
        # grpclib as a server answers an unknown method without a content type, and as a client trips over that first.
        case GRPCError(status=Status.UNIMPLEMENTED) | GRPCError(message="Missing content-type header"):
            return NotOfferedError(f"Workload API at {endpoint} does not offer this method: {error.message}")
        case GRPCError():
            return WorkloadApiUnavailableError(endpoint, f"{error.status.name}: {error.message}")
        case TimeoutError():
            return WorkloadApiUnavailableError(endpoint, "no answer within the deadline")
        case FileNotFoundError():
            return WorkloadApiUnavailableError(endpoint, "the socket does not exist")
        case _:
            return WorkloadApiUnavailableError(endpoint, str(error) or type(error).__name__)


def _read_or_outage(reply: Reply, read: Callable[[Reply], T]) -> T | Outage:
    """One answer that breaks the standard must not end the stream: the next may be whole."""
    try:
        return read(reply)
    except AgentShieldError as error:
        return Outage(error)


def _x509_context(reply: pb.X509SVIDResponse) -> X509Context:
    if not reply.svids:
        raise NoIdentityError
    messages = _unique_hints(reply.svids)
    svids = tuple(map(_x509_svid, messages))
    own = {svid.spiffe_id.trust_domain: each.bundle for svid, each in zip(svids, messages, strict=True)}
    federated = {TrustDomain.parse(name): der for name, der in reply.federated_bundles.items()}
    return X509Context(svids=svids, bundles=_x509_bundle_set({**federated, **own}))


def _unique_hints(svids: Iterable[pb.X509SVID]) -> list[pb.X509SVID]:
    """Workload API 5.2.1: of two with the same hint the first counts."""
    seen: set[str] = set()
    unique = []
    for each in svids:
        if each.hint and each.hint in seen:
            continue
        seen.add(each.hint)
        unique.append(each)
    return unique


def _x509_svid(message: pb.X509SVID) -> X509Svid:
    svid = X509Svid.parse(message.x509_svid, message.x509_svid_key, hint=message.hint or None)
    if str(svid.spiffe_id) != message.spiffe_id:
        raise WorkloadApiRefusedError(
            f"Workload API sent the SVID of {svid.spiffe_id} as that of {message.spiffe_id!a}"
        )
    return svid


def _x509_bundles(reply: pb.X509BundlesResponse) -> BundleSet:
    return _x509_bundle_set({TrustDomain.parse(name): der for name, der in reply.bundles.items()})


def _x509_bundle_set(bundles: Mapping[TrustDomain, bytes]) -> BundleSet:
    return BundleSet.of(*(TrustBundle.from_x509_der(trust_domain, der) for trust_domain, der in bundles.items()))


def _jwt_bundles(reply: pb.JWTBundlesResponse) -> BundleSet:
    return BundleSet.of(*(TrustBundle.from_jwks(TrustDomain.parse(name), jwks) for name, jwks in reply.bundles.items()))


def _wit_request(subject: SpiffeId | None) -> pb.WITSVIDRequest:
    return pb.WITSVIDRequest(spiffe_id=str(subject) if subject is not None else "")


def _wit_svids(reply: pb.WITSVIDResponse) -> tuple[WitSvid, ...]:
    if not reply.svids:
        raise NoIdentityError
    return tuple(map(_wit_svid, reply.svids))


def _wit_svid(message: pb.WITSVID) -> WitSvid:
    jwk = parse_json_object(message.wit_svid_key.encode(), what="WIT-SVID key", error=InvalidJwkError)
    svid = WitSvid.unsafe_from_own_agent(message.wit_svid, private_key_of(jwk), hint=message.hint or None)
    if str(svid.spiffe_id) != message.spiffe_id:
        raise WorkloadApiRefusedError(
            f"Workload API sent the WIT-SVID of {svid.spiffe_id} as that of {message.spiffe_id!a}"
        )
    return svid


def _wit_bundles(reply: pb.WITBundlesResponse) -> BundleSet:
    bundles = ((TrustDomain.parse(name), jwks.encode()) for name, jwks in reply.bundles.items())
    return BundleSet.of(*(TrustBundle.from_wit_jwks(trust_domain, jwks) for trust_domain, jwks in bundles))
