"""The eight calls of a stock spire-agent (SPIRE 1.15), with SPIRE's own answers and errors."""

from collections.abc import Mapping, Sequence
from typing import Final

from grpclib.const import Handler
from grpclib.server import Stream

from agentshield.authority.grpc_calls import Callers, address_of, answered, status_of
from agentshield.authority.grpc_messages import entry_message, jwt_svid_message, x509_svid_message
from agentshield.authority.grpc_rate_limit import NodeRates, RateLimiter
from agentshield.authority.issuance import IssuedX509Svid
from agentshield.authority.model import RegistrationEntry
from agentshield.authority.service import AuthorityService
from agentshield.authority.svids import MAX_BATCH, X509Request
from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.sdk.wire import methods, spire_pb2
from agentshield.sdk.wire.guard import next_of, request_of
from agentshield.sdk.wire.messages import bundle_message

MAX_ENTRIES_A_MESSAGE: Final = 500  # SPIRE's page; up to here all entries are sent in full, unasked
_MAX_VERSION: Final = 255

_Sync = Stream[spire_pb2.SyncAuthorizedEntriesRequest, spire_pb2.SyncAuthorizedEntriesResponse]


class SpireApi:
    """Answers nodes. AttestAgent and GetBundle are for anyone, the rest for attested nodes."""

    def __init__(self, service: AuthorityService, callers: Callers, rates: NodeRates) -> None:
        self._service = service
        self._callers = callers
        self._attest_limit = RateLimiter(rates.attest)
        self._x509_limit = RateLimiter(rates.sign_x509)
        self._jwt_limit = RateLimiter(rates.sign_jwt)
        self._status_limit = RateLimiter(rates.post_status)

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by path, as grpclib wants them."""
        return dict(
            (
                methods.ATTEST_AGENT.handled_by(self.attest_agent),
                methods.RENEW_AGENT.handled_by(self.renew_agent),
                methods.POST_STATUS.handled_by(self.post_status),
                methods.SYNC_AUTHORIZED_ENTRIES.handled_by(self.sync_authorized_entries),
                methods.GET_BUNDLE.handled_by(self.get_bundle),
                methods.GET_FEDERATED_BUNDLE.handled_by(self.get_federated_bundle),
                methods.BATCH_NEW_X509_SVID.handled_by(self.batch_new_x509_svid),
                methods.NEW_JWT_SVID.handled_by(self.new_jwt_svid),
            )
        )

    @answered
    async def attest_agent(self, stream: Stream[spire_pb2.AttestAgentRequest, spire_pb2.AttestAgentResponse]) -> None:
        """Find out which node this is, and give it its first SVID. No method we have asks for a challenge."""
        await self._attest_limit.take(address_of(stream))
        request = await request_of(stream)
        params = request.params
        if not request.HasField("params") or not params.data.type:
            raise InvalidInputError("first message has no attestation data, or data without a type")
        csr = _required_csr(params.params)
        attestation = await self._service.attest_node(params.data.type, params.data.payload, csr)
        await stream.send_message(
            spire_pb2.AttestAgentResponse(
                result=spire_pb2.AttestAgentResponse.Result(
                    svid=x509_svid_message(attestation.svid), reattestable=attestation.reattestable
                )
            )
        )

    @answered
    async def renew_agent(self, stream: Stream[spire_pb2.RenewAgentRequest, spire_pb2.RenewAgentResponse]) -> None:
        """Give a node that cannot attest again its next SVID."""
        await self._x509_limit.take(address_of(stream))
        node = await self._callers.node(stream)
        request = await request_of(stream)
        svid = await self._service.renew_node(node.spiffe_id, _required_csr(request.params))
        await stream.send_message(spire_pb2.RenewAgentResponse(svid=x509_svid_message(svid)))

    @answered
    async def post_status(self, stream: Stream[spire_pb2.PostStatusRequest, spire_pb2.PostStatusResponse]) -> None:
        """Note which software the node runs."""
        await self._status_limit.take(address_of(stream))
        node = await self._callers.node(stream)
        request = await request_of(stream)
        if len(request.agent_version) > _MAX_VERSION:
            raise InvalidInputError(
                f"agent version has {len(request.agent_version)} characters, at most {_MAX_VERSION} are allowed"
            )
        await self._service.post_status(node.spiffe_id, agent_version=request.agent_version)
        await stream.send_message(spire_pb2.PostStatusResponse())

    @answered
    async def sync_authorized_entries(self, stream: _Sync) -> None:
        """Tell a node its entries: all of them if they are few, else their revisions and then those it asks for."""
        node = await self._callers.node(stream)
        request = await request_of(stream)
        if request.ids:
            raise InvalidInputError("first message names entries, expected only the output mask")
        mask = request.output_mask if request.HasField("output_mask") else None
        if mask is not None and not mask.revision_number:
            raise InvalidInputError("output mask leaves out the revision number, which cannot be left out")
        entries = await self._service.authorized_entries(node.spiffe_id)
        if len(entries) <= MAX_ENTRIES_A_MESSAGE:
            messages = [entry_message(entry, mask) for entry in entries]
            await stream.send_message(spire_pb2.SyncAuthorizedEntriesResponse(entries=messages))
            return
        await _send_revisions(stream, entries)
        await _send_requested(stream, {entry.entry_id: entry for entry in entries}, mask)

    @answered
    async def get_bundle(self, stream: Stream[spire_pb2.GetBundleRequest, spire_pb2.Bundle]) -> None:
        """Tell anyone our own trust bundle: it is no secret, and a node needs it before it has an SVID."""
        request = await request_of(stream)
        mask = request.output_mask if request.HasField("output_mask") else None
        await stream.send_message(bundle_message(self._service.bundle(), mask))

    @answered
    async def get_federated_bundle(self, stream: Stream[spire_pb2.GetFederatedBundleRequest, spire_pb2.Bundle]) -> None:
        """Tell a node the bundle of another trust domain."""
        await self._callers.node(stream)
        request = await request_of(stream)
        trust_domain = TrustDomain.parse(request.trust_domain)
        if trust_domain == self._service.settings.trust_domain:
            raise InvalidInputError(f"{trust_domain} is our own trust domain: ask GetBundle")
        mask = request.output_mask if request.HasField("output_mask") else None
        await stream.send_message(bundle_message(self._service.federated_bundle(trust_domain), mask))

    @answered
    async def batch_new_x509_svid(
        self, stream: Stream[spire_pb2.BatchNewX509SVIDRequest, spire_pb2.BatchNewX509SVIDResponse]
    ) -> None:
        """Sign for entries of the node; each request is answered for itself, in order."""
        node = await self._callers.node(stream)
        request = await request_of(stream)
        count = len(request.params)
        if not 1 <= count <= MAX_BATCH:
            raise InvalidInputError(f"{count} SVIDs asked for at once, 1 to {MAX_BATCH} are allowed")
        await self._x509_limit.take(address_of(stream), count)
        wanted = [X509Request(entry_id=each.entry_id, csr=each.csr) for each in request.params]
        answers = await self._service.issue_x509_svids(node.spiffe_id, wanted)
        await stream.send_message(spire_pb2.BatchNewX509SVIDResponse(results=map(_batch_result, answers)))

    @answered
    async def new_jwt_svid(self, stream: Stream[spire_pb2.NewJWTSVIDRequest, spire_pb2.NewJWTSVIDResponse]) -> None:
        """Sign a token for an entry of the node."""
        await self._jwt_limit.take(address_of(stream))
        node = await self._callers.node(stream)
        request = await request_of(stream)
        if not request.audience:
            raise InvalidInputError("at least one audience is required")
        svid = await self._service.issue_jwt_svid(node.spiffe_id, request.entry_id, tuple(request.audience))
        await stream.send_message(spire_pb2.NewJWTSVIDResponse(svid=jwt_svid_message(svid)))


def _required_csr(params: spire_pb2.AgentX509SVIDParams) -> bytes:
    if not params.csr:
        raise InvalidInputError("request has no CSR")
    return params.csr


def _batch_result(answer: IssuedX509Svid | AgentShieldError) -> spire_pb2.BatchNewX509SVIDResponse.Result:
    if isinstance(answer, AgentShieldError):
        status, message = status_of(answer)
        return spire_pb2.BatchNewX509SVIDResponse.Result(status=spire_pb2.Status(code=status.value, message=message))
    return spire_pb2.BatchNewX509SVIDResponse.Result(status=spire_pb2.Status(), svid=x509_svid_message(answer))


async def _send_revisions(stream: _Sync, entries: Sequence[RegistrationEntry]) -> None:
    revisions = [
        spire_pb2.EntryRevision(
            id=entry.entry_id, revision_number=entry.revision_number, created_at=entry_message(entry).created_at
        )
        for entry in entries
    ]
    for start in range(0, len(revisions), MAX_ENTRIES_A_MESSAGE):
        stop = start + MAX_ENTRIES_A_MESSAGE
        await stream.send_message(
            spire_pb2.SyncAuthorizedEntriesResponse(entry_revisions=revisions[start:stop], more=stop < len(revisions))
        )


async def _send_requested(
    stream: _Sync, entries: Mapping[str, RegistrationEntry], mask: spire_pb2.EntryMask | None
) -> None:
    """Answer each list of IDs with pages of whole entries; an ID that is not the node's is skipped in silence."""
    while (request := await next_of(stream)) is not None:
        known = [entries[entry_id] for entry_id in dict.fromkeys(request.ids) if entry_id in entries]
        for start in range(0, len(known), MAX_ENTRIES_A_MESSAGE) or (0,):  # no entry at all is an empty page
            stop = start + MAX_ENTRIES_A_MESSAGE
            page = [entry_message(entry, mask) for entry in known[start:stop]]
            await stream.send_message(spire_pb2.SyncAuthorizedEntriesResponse(entries=page, more=stop < len(known)))
