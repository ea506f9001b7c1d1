"""The authority, as a node agent calls it: SPIRE's eight calls and our own push."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from google.protobuf.message import Message
from grpclib.client import Channel, Stream
from grpclib.const import Status
from grpclib.encoding.proto import ProtoCodec

from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.wit_svid import IssuedWitSvid
from agentshield.sdk.authorizers import only
from agentshield.sdk.clients.errors import (
    AttestationRefusedError,
    RequestRefusedError,
    error_of_status,
    our_errors,
)
from agentshield.sdk.clients.values import (
    AuthorizedEntry,
    CsrForEntry,
    EnforcementAck,
    EntriesUpdate,
    EventReceipt,
    IssuedX509,
    NodeSvid,
    Snapshot,
    entries_of,
    whole_updates,
)
from agentshield.sdk.tls import SpiffeContext
from agentshield.sdk.wire import methods, node_pb2, push_pb2, spire_pb2
from agentshield.sdk.wire.messages import bundle_of
from agentshield.sdk.wire.methods import Method
from agentshield.sdk.wire.status_details import StatusDetailsCodec

SERVER_PATH: Final = "/spire/server"
DEADLINE: Final = 30.0  # seconds for a call that has one answer; a spire-agent's own

_Request = TypeVar("_Request", bound=Message)
_Reply = TypeVar("_Reply", bound=Message)


def authority_context(trust_domain: TrustDomain, **options: Any) -> SpiffeContext:
    """Make the TLS context for dialling the authority of `trust_domain`, and nobody else under its roots.

    `options` are those of `SpiffeContext.for_client`. Give it the bundle, and an SVID once there is one: `update`.
    """
    server = SpiffeId.of(trust_domain, SERVER_PATH)
    return SpiffeContext.for_client(authorize=only(server), alpn=("h2",), **options)


class AuthorityClient:
    """One connection to the authority, made when first needed. Every call raises AgentShieldError and nothing else.

    It does not try again: whoever calls knows how urgent it is. After the context was given a new SVID, `reconnect`.
    """

    def __init__(
        self, host: str, port: int, *, trust_domain: TrustDomain, context: SpiffeContext, deadline: float = DEADLINE
    ) -> None:
        self._address = f"{host}:{port}"
        self._trust_domain = trust_domain
        self._deadline = deadline
        self._make: Callable[[], Channel] = lambda: Channel(
            host, port, ssl=context, codec=ProtoCodec(), status_details_codec=StatusDetailsCodec()
        )
        self._channel: Channel | None = None

    async def attest_agent(self, attestation_type: str, payload: bytes, csr: bytes) -> NodeSvid:
        """Prove what this node is, and get its SVID. A join token's payload is the token.

        Raises:
            AttestationRefusedError: we were not believed.
            NodeRefusedError: banned.
            UnavailableError: no answer.
        """
        request = spire_pb2.AttestAgentRequest(
            params=spire_pb2.AttestAgentRequest.Params(
                data=spire_pb2.AttestationData(type=attestation_type, payload=payload),
                params=spire_pb2.AgentX509SVIDParams(csr=csr),
            )
        )
        try:
            with our_errors(self._address):
                async with self._open(methods.ATTEST_AGENT, timeout=self._deadline) as stream:
                    await stream.send_message(request, end=True)
                    reply = await stream.recv_message()
        except RequestRefusedError as error:
            raise AttestationRefusedError(
                f"the authority did not accept the {attestation_type}: {error}",
                hint="a join token is good for one node, once, and not for long: make another",
            ) from error
        if reply is None or not reply.HasField("result"):
            raise InvalidInputError(f"the authority asks for more than {attestation_type} attestation can answer")
        svid = self._own(IssuedX509.of(reply.result.svid))
        return NodeSvid(svid=svid, reattestable=reply.result.reattestable)

    async def renew_agent(self, csr: bytes) -> IssuedX509:
        """Get the next SVID of this node. Raises: NodeRefusedError, UnavailableError."""
        request = spire_pb2.RenewAgentRequest(params=spire_pb2.AgentX509SVIDParams(csr=csr))
        reply = await self._call(methods.RENEW_AGENT, request)
        return self._own(IssuedX509.of(reply.svid))

    async def post_status(self, *, bundle_sequence: int, agent_version: str) -> None:
        """Say which bundle we hold and which software we run. Raises: NodeRefusedError, UnavailableError."""
        await self._call(
            methods.POST_STATUS,
            spire_pb2.PostStatusRequest(current_bundle_serial=bundle_sequence, agent_version=agent_version),
        )

    async def sync_authorized_entries(self) -> tuple[AuthorizedEntry, ...]:
        """Fetch every entry of this node; large sets come in pages. Raises: NodeRefusedError, UnavailableError."""
        with our_errors(self._address):
            async with self._open(methods.SYNC_AUTHORIZED_ENTRIES, timeout=self._deadline) as stream:
                await stream.send_message(spire_pb2.SyncAuthorizedEntriesRequest())
                entries, wanted = await _first_answer(stream)
                if wanted:
                    await stream.send_message(spire_pb2.SyncAuthorizedEntriesRequest(ids=wanted))
                    entries += await _pages(stream)
                await stream.end()
        return entries_of(entries)

    async def get_bundle(self) -> TrustBundle:
        """Fetch the bundle of our own trust domain; no SVID is needed. Raises: UnavailableError, InvalidInputError."""
        reply = await self._call(methods.GET_BUNDLE, spire_pb2.GetBundleRequest())
        return bundle_of(reply, trust_domain=self._trust_domain)

    async def get_federated_bundle(self, trust_domain: TrustDomain) -> TrustBundle:
        """Fetch the bundle of another trust domain. Raises: NotAtAuthorityError, NodeRefusedError, UnavailableError."""
        request = spire_pb2.GetFederatedBundleRequest(trust_domain=trust_domain.name)
        reply = await self._call(methods.GET_FEDERATED_BUNDLE, request)
        return bundle_of(reply, trust_domain=trust_domain)

    async def batch_new_x509_svid(self, requests: Sequence[CsrForEntry]) -> tuple[IssuedX509 | AgentShieldError, ...]:
        """Have certificates signed, at most 500 at once; each answer is a chain or why not, in the order asked.

        Raises:
            NodeRefusedError, UnavailableError: no answer for any of them.
        """
        params = [spire_pb2.NewX509SVIDParams(entry_id=each.entry_id, csr=each.csr) for each in requests]
        reply = await self._call(methods.BATCH_NEW_X509_SVID, spire_pb2.BatchNewX509SVIDRequest(params=params))
        if len(reply.results) != len(requests):
            raise InvalidInputError(f"asked for {len(requests)} SVIDs, the authority answered {len(reply.results)}")
        return tuple(self._answer(each) for each in reply.results)

    async def new_jwt_svid(self, entry_id: str, audience: Sequence[str]) -> JwtSvid:
        """Have a token signed. Raises: NotAtAuthorityError, RequestRefusedError, NodeRefusedError, UnavailableError."""
        reply = await self._call(
            methods.NEW_JWT_SVID, spire_pb2.NewJWTSVIDRequest(entry_id=entry_id, audience=audience)
        )
        return JwtSvid.unsafe_from_own_agent(reply.svid.token, hint=reply.svid.hint or None)

    async def new_wit_svid(self, entry_id: str, csr: bytes) -> IssuedWitSvid:
        """Have a WIT-SVID signed for the key that signed the CSR.

        Raises:
            NotOfferedError: this authority issues none.
            NotAtAuthorityError, RequestRefusedError, NodeRefusedError, UnavailableError: as `new_jwt_svid`.
        """
        reply = await self._call(methods.NEW_WIT_SVID, push_pb2.NewWITSVIDRequest(entry_id=entry_id, csr=csr))
        svid = IssuedWitSvid.unsafe_from_own_authority(reply.token)
        if not svid.spiffe_id.member_of(self._trust_domain):
            raise InvalidInputError(f"the authority of {self._trust_domain} sent a WIT-SVID of {svid.spiffe_id}")
        return svid

    async def watch_entries(self) -> AsyncIterator[EntriesUpdate]:
        """Follow what this node may serve; the first update is full, and asking for the next confirms the last.

        Raises:
            NotOfferedError: this authority does not push.
            NodeRefusedError, UnavailableError: the stream has ended; it does at the latest with our SVID.
        """
        with our_errors(self._address):
            async with self._open(methods.WATCH_ENTRIES) as stream:
                await stream.send_message(push_pb2.WatchEntriesRequest())
                async for update in whole_updates(stream):
                    yield update
                    await stream.send_message(push_pb2.WatchEntriesRequest(applied_version=update.version))

    async def watch_enforcement(self, acks: AsyncIterator[EnforcementAck]) -> AsyncIterator[Snapshot]:
        """Follow the state of enforcement, and pass on how far our enforcement points are.

        Raises:
            NotOfferedError: this authority does not push.
            NodeRefusedError, UnavailableError: the stream has ended; it does at the latest with our SVID.
        """
        with our_errors(self._address):
            async with self._open(methods.WATCH_ENFORCEMENT) as stream:
                await stream.send_message(push_pb2.EnforcementAck())  # opens the stream
                sender = asyncio.create_task(_send_acks(stream, acks))
                try:
                    async for message in stream:
                        yield Snapshot(version=message.version, content=message.snapshot_json)
                finally:
                    sender.cancel()
                    with suppress(asyncio.CancelledError, Exception):  # the stream itself says what went wrong
                        await sender

    async def record_events(self, events: Sequence[bytes]) -> tuple[EventReceipt, ...]:
        """Have events written to the audit log, at most 500; returns when they cannot be lost any more.

        Raises:
            RequestRefusedError: one is not an event that a node may report; none is logged.
            NodeRefusedError, UnavailableError: they are not known to be logged.
        """
        reply = await self._call(methods.RECORD_EVENTS, node_pb2.RecordRequest(events=events))
        return tuple(EventReceipt(event_id=each.event_id, index=each.index) for each in reply.receipts)

    def reconnect(self) -> None:
        """Drop the connection; the next call makes a new one, with the SVID that the context has by then."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def close(self) -> None:
        """Drop the connection."""
        self.reconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Method[_Request, _Reply], request: _Request) -> _Reply:
        with our_errors(self._address):
            return await method.call(self._connected(), request, timeout=self._deadline)

    def _open(self, method: Method[_Request, _Reply], *, timeout: float | None = None) -> Stream[_Request, _Reply]:
        return method.open(self._connected(), timeout=timeout)

    def _connected(self) -> Channel:
        if self._channel is None:
            self._channel = self._make()
        return self._channel

    def _own(self, svid: IssuedX509) -> IssuedX509:
        """An authority speaks for its own trust domain only."""
        if not svid.spiffe_id.member_of(self._trust_domain):
            raise InvalidInputError(f"the authority of {self._trust_domain} sent an SVID of {svid.spiffe_id}")
        return svid

    def _answer(self, result: spire_pb2.BatchNewX509SVIDResponse.Result) -> IssuedX509 | AgentShieldError:
        if result.status.code:
            return error_of_status(_status_of(result.status.code), result.status.message)
        try:
            return self._own(IssuedX509.of(result.svid))
        except AgentShieldError as error:
            return error


def _status_of(code: int) -> Status:
    return Status(code) if code in {each.value for each in Status} else Status.UNKNOWN


async def _first_answer(stream: Stream[Any, Any]) -> tuple[list[spire_pb2.Entry], list[str]]:
    """Return the entries if the authority sent them at once, else the IDs of those to ask for."""
    entries: list[spire_pb2.Entry] = []
    wanted: list[str] = []
    async for message in stream:
        entries += message.entries
        wanted += [each.id for each in message.entry_revisions]
        if not message.more:
            break
    return entries, wanted


async def _pages(stream: Stream[Any, Any]) -> list[spire_pb2.Entry]:
    entries: list[spire_pb2.Entry] = []
    async for message in stream:
        entries += message.entries
        if not message.more:
            break
    return entries


async def _send_acks(stream: Stream[Any, Any], acks: AsyncIterator[EnforcementAck]) -> None:
    async for ack in acks:
        await stream.send_message(
            push_pb2.EnforcementAck(
                applied_version=ack.applied_version,
                enforcement_points=ack.enforcement_points,
                confirmed=ack.confirmed,
            )
        )
