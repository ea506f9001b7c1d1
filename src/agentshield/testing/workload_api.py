"""A Workload API for tests: a real gRPC server on a Unix socket, fed by a `FakeTrustDomain`.

It believes every caller to be the same process, since tests have one; give each agent of a test an API of its own.
"""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.server import Server, Stream

from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.jwk import private_jwk_of
from agentshield.identity.verify import verify_jwt_svid
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.endpoint import Endpoint
from agentshield.sdk.wire import methods, node_pb2
from agentshield.sdk.wire import workload_pb2 as pb
from agentshield.testing.trust_domain import SVID_LIFETIME, FakeTrustDomain

if TYPE_CHECKING:
    from agentshield.sdk.enforcement_snapshot import EnforcementSnapshot

_NO_IDENTITY: Final = "no identity issued"


class FakeWorkloadApi:
    """The socket of a node agent. Use it as an async context manager; `endpoint` is its address.

    `identities` are the paths (or SPIFFE IDs) that callers get SVIDs for. With `kind="spire"` it serves the standard's
    API alone, as a spire-agent does; otherwise also the node agent's enforcement and launch services.
    """

    def __init__(
        self,
        domain: FakeTrustDomain,
        *identities: str,
        federated: Sequence[FakeTrustDomain] = (),
        kind: Literal["agentshield", "spire"] = "agentshield",
        svid_lifetime: timedelta = SVID_LIFETIME,
        jwt_lifetime: timedelta = timedelta(minutes=5),
    ) -> None:
        self.domain = domain
        self.federated = list(federated)
        self.svid_lifetime = svid_lifetime
        self.jwt_lifetime = jwt_lifetime
        self.identities = list(identities)
        self.fault: GRPCError | None = None
        self.jwt_requests = 0
        self.acknowledged: list[int] = []
        self._applied: dict[Stream[node_pb2.WatchRequest, node_pb2.Snapshot], int] = {}
        self.events: list[dict[str, Any]] = []
        self.launches: list[node_pb2.LaunchRequest] = []
        self._kind = kind
        self._snapshot: EnforcementSnapshot | None = None
        self._svids: tuple[X509Svid, ...] = ()
        self._version = 0
        self._changed = asyncio.Condition()
        self._directory = Path(tempfile.mkdtemp(prefix="workload-api-"))
        self._server: Server | None = None
        self._connections: set[asyncio.WriteTransport] = set()

    @property
    def socket(self) -> Path:
        """Where the socket is."""
        return self._directory / "workload.sock"

    @property
    def endpoint(self) -> Endpoint:
        """Its address, for a client or, as text, for SPIFFE_ENDPOINT_SOCKET."""
        return Endpoint(path=str(self.socket))

    async def __aenter__(self) -> Self:
        self._issue()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        shutil.rmtree(self._directory)

    async def start(self) -> None:
        """Listen; also again after `stop`, as a node agent that was restarted."""
        self._server = Server([self])
        await self._server.start(path=str(self.socket))

    async def stop(self) -> None:
        """End all calls and remove the socket."""
        if self._server is not None:
            self._server.close()
            for transport in self._connections:  # closing a grpclib server leaves its connections open
                transport.abort()
            self._connections.clear()
            await self._server.wait_closed()
            self._server = None
        self.socket.unlink(missing_ok=True)

    @property
    def svid(self) -> X509Svid:
        """The default SVID that callers get now."""
        return self._svids[0]

    async def rotate(self) -> None:
        """Issue new SVIDs and send them, with the bundles as they are now, to every open stream."""
        self._issue()
        await self._notify()

    async def withdraw(self) -> None:
        """Take every identity away: streams end with PermissionDenied."""
        self.identities.clear()
        await self.rotate()

    async def acknowledged_by_all(self, version: int, *, deadline: float = 5.0) -> None:
        """Wait until every enforcement point that follows has applied `version`.

        Raises:
            TimeoutError: one has not.
        """
        async with asyncio.timeout(deadline):
            async with self._changed:
                await self._changed.wait_for(lambda: all(each >= version for each in self._applied.values()))

    async def publish(self, snapshot: "EnforcementSnapshot") -> None:
        """Send policy and standing to every enforcement point."""
        self._snapshot = snapshot
        await self._notify()

    def __mapping__(self) -> Mapping[str, Handler]:
        """Tell grpclib which method answers which path."""
        standard = [
            methods.FETCH_X509_SVID.handled_by(self._fetch_x509_svid),
            methods.FETCH_X509_BUNDLES.handled_by(self._fetch_x509_bundles),
            methods.FETCH_JWT_SVID.handled_by(self._fetch_jwt_svid),
            methods.FETCH_JWT_BUNDLES.handled_by(self._fetch_jwt_bundles),
            methods.VALIDATE_JWT_SVID.handled_by(self._validate_jwt_svid),
        ]
        wit = [  # a spire-agent has none
            methods.FETCH_WIT_SVID.handled_by(self._fetch_wit_svid),
            methods.FETCH_WIT_BUNDLES.handled_by(self._fetch_wit_bundles),
        ]
        ours = [
            methods.WATCH.handled_by(self._watch_enforcement),
            methods.RECORD.handled_by(self._record),
            methods.REGISTER_LAUNCH.handled_by(self._register_launch),
        ]
        return dict([*standard, *([*wit, *ours] if self._kind == "agentshield" else [])])

    def _issue(self) -> None:
        self._svids = tuple(
            self.domain.issue_svid(each, lifetime=self.svid_lifetime, hint=each.rpartition("/")[2] if number else None)
            for number, each in enumerate(self.identities)
        )

    async def _notify(self) -> None:
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    async def _versions(self) -> AsyncIterator[int]:
        """Yield at once, and after each change; changes in between are one."""
        seen = -1
        while True:
            async with self._changed:
                while self._version == seen:
                    await self._changed.wait()
                seen = self._version
            yield seen

    def _check(self, stream: Stream[Any, Any]) -> None:
        """SPIFFE Workload Endpoint 4: the header is there exactly so, or the request is not for us."""
        self._connections.add(stream.peer._transport)  # noqa: SLF001  grpclib has no public way to it
        if dict(stream.metadata or {}).get("workload.spiffe.io") != "true":
            raise GRPCError(Status.INVALID_ARGUMENT, "security header missing from request")
        if self.fault is not None:
            raise self.fault
        if not self._svids:
            raise GRPCError(Status.PERMISSION_DENIED, _NO_IDENTITY)

    async def _fetch_x509_svid(self, stream: Stream[pb.X509SVIDRequest, pb.X509SVIDResponse]) -> None:
        await stream.recv_message()
        async for _ in self._versions():
            self._check(stream)
            bundle = self.domain.bundle.x509_der()
            svids = [
                pb.X509SVID(
                    spiffe_id=str(svid.spiffe_id),
                    x509_svid=svid.chain_der(),
                    x509_svid_key=svid.key_pkcs8(),
                    bundle=bundle,
                    hint=svid.hint or "",
                )
                for svid in self._svids
            ]
            federated = {each.trust_domain.id_string: each.bundle.x509_der() for each in self.federated}
            await stream.send_message(pb.X509SVIDResponse(svids=svids, federated_bundles=federated))

    async def _fetch_x509_bundles(self, stream: Stream[pb.X509BundlesRequest, pb.X509BundlesResponse]) -> None:
        await stream.recv_message()
        async for _ in self._versions():
            self._check(stream)
            bundles = {each.trust_domain.id_string: each.x509_der() for each in self._bundles()}
            await stream.send_message(pb.X509BundlesResponse(bundles=bundles))

    async def _fetch_jwt_svid(self, stream: Stream[pb.JWTSVIDRequest, pb.JWTSVIDResponse]) -> None:
        request = await stream.recv_message()
        self._check(stream)
        assert request is not None
        if not request.audience:
            raise GRPCError(Status.INVALID_ARGUMENT, "audience must be specified")
        self.jwt_requests += 1
        subjects = [each.spiffe_id for each in self._svids if request.spiffe_id in ("", str(each.spiffe_id))]
        svids = [
            self.domain.issue_jwt_svid(str(each), list(request.audience), lifetime=self.jwt_lifetime)
            for each in subjects
        ]
        await stream.send_message(
            pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id=str(each.spiffe_id), svid=each.token) for each in svids])
        )

    async def _fetch_jwt_bundles(self, stream: Stream[pb.JWTBundlesRequest, pb.JWTBundlesResponse]) -> None:
        await stream.recv_message()
        async for _ in self._versions():
            self._check(stream)
            bundles = {each.trust_domain.id_string: each.jwks() for each in self._bundles()}
            await stream.send_message(pb.JWTBundlesResponse(bundles=bundles))

    async def _fetch_wit_svid(self, stream: Stream[pb.WITSVIDRequest, pb.WITSVIDResponse]) -> None:
        request = await stream.recv_message()
        assert request is not None
        async for _ in self._versions():
            self._check(stream)
            svids = [
                self.domain.issue_wit_svid(str(each.spiffe_id), lifetime=self.svid_lifetime, hint=each.hint)
                for each in self._svids
                if request.spiffe_id in ("", str(each.spiffe_id))
            ]
            messages = [
                pb.WITSVID(
                    spiffe_id=str(svid.spiffe_id),
                    wit_svid=svid.token,
                    wit_svid_key=json.dumps(private_jwk_of(svid.private_key)),
                    hint=svid.hint or "",
                )
                for svid in svids
            ]
            await stream.send_message(pb.WITSVIDResponse(svids=messages))

    async def _fetch_wit_bundles(self, stream: Stream[pb.WITBundlesRequest, pb.WITBundlesResponse]) -> None:
        await stream.recv_message()
        async for _ in self._versions():
            self._check(stream)
            bundles = {each.trust_domain.id_string: each.wit_jwks().decode() for each in self._bundles()}
            await stream.send_message(pb.WITBundlesResponse(bundles=bundles))

    async def _validate_jwt_svid(self, stream: Stream[pb.ValidateJWTSVIDRequest, pb.ValidateJWTSVIDResponse]) -> None:
        request = await stream.recv_message()
        self._check(stream)
        assert request is not None
        try:
            verified = verify_jwt_svid(request.svid, self._bundles(), audience=request.audience, at=self.domain.clock())
        except (AgentShieldError, ValueError) as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        claims = ParseDict(json.loads(json.dumps(dict(verified.claims))), Struct())
        await stream.send_message(pb.ValidateJWTSVIDResponse(spiffe_id=str(verified.spiffe_id), claims=claims))

    async def _watch_enforcement(self, stream: Stream[node_pb2.WatchRequest, node_pb2.Snapshot]) -> None:
        self._connections.add(stream.peer._transport)  # noqa: SLF001
        self._applied[stream] = 0
        acknowledgements = asyncio.create_task(self._read_acknowledgements(stream))
        try:
            async for _ in self._versions():
                if self.fault is not None:
                    raise self.fault
                if self._snapshot is not None:
                    message = node_pb2.Snapshot(version=self._snapshot.version, snapshot_json=self._snapshot.to_json())
                    await stream.send_message(message)
        finally:
            acknowledgements.cancel()
            del self._applied[stream]

    async def _read_acknowledgements(self, stream: Stream[node_pb2.WatchRequest, node_pb2.Snapshot]) -> None:
        async for request in stream:
            self.acknowledged.append(request.applied_version)
            self._applied[stream] = request.applied_version
            async with self._changed:
                self._changed.notify_all()

    async def _record(self, stream: Stream[node_pb2.RecordRequest, node_pb2.RecordResponse]) -> None:
        request = await stream.recv_message()
        if self.fault is not None:
            raise self.fault
        assert request is not None
        first = len(self.events)
        self.events += [json.loads(event) for event in request.events]
        receipts = [
            node_pb2.Receipt(event_id=event["event_id"], index=first + number)
            for number, event in enumerate(self.events[first:])
        ]
        await stream.send_message(node_pb2.RecordResponse(receipts=receipts))

    async def _register_launch(self, stream: Stream[node_pb2.LaunchRequest, node_pb2.LaunchResponse]) -> None:
        request = await stream.recv_message()
        assert request is not None
        self.launches.append(request)
        self.identities = [f"/agents/{request.agent}"]
        await self.rotate()
        await stream.send_message(node_pb2.LaunchResponse(spiffe_id=str(self.domain.agent_id(request.agent))))

    def _bundles(self) -> BundleSet:
        return self.domain.bundles(*self.federated)
