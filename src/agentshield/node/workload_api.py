"""The SPIFFE Workload API, messages in and messages out. `workloads` has the rules."""

import json
from contextlib import aclosing
from typing import Any

from google.protobuf import json_format
from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from agentshield.errors import AuthenticationError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.jwk import private_jwk_of
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.node.grpc_status import answered
from agentshield.node.peer import Peer
from agentshield.node.socket_server import caller_of
from agentshield.node.workloads import ServedWit, ServedX509, Workloads, X509State
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import workload_pb2 as messages
from agentshield.sdk.wire.guard import request_of

_HEADER, _HEADER_VALUE = next(iter(methods.WORKLOAD_METADATA.items()))


class WorkloadApi:
    """The seven methods of `SpiffeWorkloadAPI`."""

    def __init__(self, workloads: Workloads, trust_domain: TrustDomain) -> None:
        self._workloads = workloads
        self._trust_domain = trust_domain

    def __mapping__(self) -> dict[str, Handler]:
        """See grpclib."""
        return dict(
            [
                methods.FETCH_X509_SVID.handled_by(answered(self.fetch_x509_svid)),
                methods.FETCH_X509_BUNDLES.handled_by(answered(self.fetch_x509_bundles)),
                methods.FETCH_JWT_SVID.handled_by(answered(self.fetch_jwt_svid)),
                methods.FETCH_JWT_BUNDLES.handled_by(answered(self.fetch_jwt_bundles)),
                methods.VALIDATE_JWT_SVID.handled_by(answered(self.validate_jwt_svid)),
                methods.FETCH_WIT_SVID.handled_by(answered(self.fetch_wit_svid)),
                methods.FETCH_WIT_BUNDLES.handled_by(answered(self.fetch_wit_bundles)),
            ]
        )

    async def fetch_x509_svid(self, stream: Stream[messages.X509SVIDRequest, messages.X509SVIDResponse]) -> None:
        """Workload API 5.2.1: every message is the full state, the first at once."""
        caller = _caller(stream)
        await request_of(stream)
        async with aclosing(self._workloads.watch_x509(caller)) as states:
            async for state in states:
                await stream.send_message(self._x509_response(state))

    async def fetch_x509_bundles(
        self, stream: Stream[messages.X509BundlesRequest, messages.X509BundlesResponse]
    ) -> None:
        """Workload API 5.2.2: X.509 authorities only."""
        caller = _caller(stream)
        await request_of(stream)
        async with aclosing(self._workloads.watch_bundles(caller)) as states:
            sent = None
            async for bundles in states:
                ders = {each.trust_domain.id_string: each.x509_der() for each in bundles}
                if ders != sent:  # a change of the JWT authorities is not one here
                    await stream.send_message(messages.X509BundlesResponse(bundles=ders))
                    sent = ders

    async def fetch_jwt_svid(self, stream: Stream[messages.JWTSVIDRequest, messages.JWTSVIDResponse]) -> None:
        """Workload API 6.2.1: one token for each identity, or for the one that the request names."""
        caller = _caller(stream)
        request = await request_of(stream)
        if not request.audience or not all(request.audience):
            raise GRPCError(Status.INVALID_ARGUMENT, "audience must be specified")
        wanted = SpiffeId.parse(request.spiffe_id) if request.spiffe_id else None
        served = await self._workloads.jwt_svids(caller, tuple(request.audience), wanted)
        svids = [
            messages.JWTSVID(spiffe_id=str(each.svid.spiffe_id), svid=each.svid.token, hint=each.hint)
            for each in served
        ]
        await stream.send_message(messages.JWTSVIDResponse(svids=svids))

    async def fetch_jwt_bundles(self, stream: Stream[messages.JWTBundlesRequest, messages.JWTBundlesResponse]) -> None:
        """Workload API 6.2.2: JWT authorities only."""
        caller = _caller(stream)
        await request_of(stream)
        async with aclosing(self._workloads.watch_bundles(caller)) as states:
            sent = None
            async for bundles in states:
                key_sets = {each.trust_domain.id_string: each.jwks() for each in bundles}
                if key_sets != sent:
                    await stream.send_message(messages.JWTBundlesResponse(bundles=key_sets))
                    sent = key_sets

    async def validate_jwt_svid(
        self, stream: Stream[messages.ValidateJWTSVIDRequest, messages.ValidateJWTSVIDResponse]
    ) -> None:
        """Workload API 6.2.3: with the bundle of the trust domain that the token's subject is in."""
        caller = _caller(stream)
        request = await request_of(stream)
        if not request.audience:
            raise GRPCError(Status.INVALID_ARGUMENT, "audience must be specified")
        if not request.svid:
            raise GRPCError(Status.INVALID_ARGUMENT, "svid must be specified")
        bundles = await self._workloads.bundles(caller)
        try:
            identity = self._workloads.verify_jwt_svid(request.svid, bundles, audience=request.audience)
        except AuthenticationError as error:  # of the token, not of the caller
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        response = messages.ValidateJWTSVIDResponse(spiffe_id=str(identity.spiffe_id))
        json_format.ParseDict(dict(identity.claims), response.claims)
        await stream.send_message(response)

    async def fetch_wit_svid(self, stream: Stream[messages.WITSVIDRequest, messages.WITSVIDResponse]) -> None:
        """Workload API, WIT-SVID profile: every message is the full state, the first at once."""
        caller = _caller(stream)
        request = await request_of(stream)
        wanted = SpiffeId.parse(request.spiffe_id) if request.spiffe_id else None
        async with aclosing(self._workloads.watch_wit(caller, wanted)) as states:
            async for state in states:
                await stream.send_message(messages.WITSVIDResponse(svids=map(_wit_message, state)))

    async def fetch_wit_bundles(self, stream: Stream[messages.WITBundlesRequest, messages.WITBundlesResponse]) -> None:
        """Workload API, WIT-SVID profile: WIT authorities only."""
        caller = _caller(stream)
        await request_of(stream)
        async with aclosing(self._workloads.watch_bundles(caller)) as states:
            sent = None
            async for bundles in states:
                key_sets = {each.trust_domain.id_string: each.wit_jwks().decode() for each in bundles}
                if key_sets != sent:
                    await stream.send_message(messages.WITBundlesResponse(bundles=key_sets))
                    sent = key_sets

    def _x509_response(self, state: X509State) -> messages.X509SVIDResponse:
        own = state.bundles.bundle_for(self._trust_domain).x509_der()
        return messages.X509SVIDResponse(
            svids=[_x509_message(each, own) for each in state.svids],
            federated_bundles=self._federated(state.bundles),
        )

    def _federated(self, bundles: BundleSet) -> dict[str, bytes]:
        foreign = (each for each in bundles if each.trust_domain != self._trust_domain)
        return {each.trust_domain.id_string: each.x509_der() for each in foreign}


def _x509_message(served: ServedX509, bundle: bytes) -> messages.X509SVID:
    return messages.X509SVID(
        spiffe_id=str(served.held.svid.spiffe_id),
        x509_svid=served.held.chain_der,
        x509_svid_key=served.held.key_pkcs8,
        bundle=bundle,
        hint=served.hint,
    )


def _wit_message(served: ServedWit) -> messages.WITSVID:
    svid = served.held.svid
    return messages.WITSVID(
        spiffe_id=str(svid.spiffe_id),
        wit_svid=svid.token,
        wit_svid_key=json.dumps(private_jwk_of(served.held.private_key)),
        hint=served.hint,
    )


def _caller(stream: Stream[Any, Any]) -> Peer:
    """Workload Endpoint 4: the metadata shows that the call was meant for us, not slipped in through a proxy."""
    if stream.metadata is None or stream.metadata.getall(_HEADER, []) != [_HEADER_VALUE]:
        raise GRPCError(Status.INVALID_ARGUMENT, "security header missing from request")
    return caller_of(stream)
