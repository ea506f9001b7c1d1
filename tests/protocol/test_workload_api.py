"""The SPIFFE Workload Endpoint and Workload API, rule by rule (WEP-, WAP-), over a real socket."""

import asyncio
import json

import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from node_harness import Node, foreign_bundle, node, running_node

from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import verify_x509_svid
from agentshield.identity.x509_svid import X509Svid, split_der_certificates
from agentshield.node.workloads import UnidentifiedVerifiers
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import workload_pb2 as m

__all__ = ["node"]

SEVEN = [method for method in methods.ALL_METHODS if method.path.startswith("/SpiffeWorkloadAPI/")]


async def refusal(node: Node, method: methods.Method, request: object) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await node.first(method, request)
    return caught.value


@pytest.mark.parametrize("metadata", [{}, {"workload.spiffe.io": "True"}, {"workload.spiffe.io": "false"}])
@pytest.mark.parametrize("method", SEVEN, ids=lambda method: method.path.rsplit("/", 1)[1])
async def test_wep_02_without_the_header_every_method_is_refused(node: Node, method, metadata):
    """The header shows that a call was meant for us; a confused proxy that lacks it must not fetch anybody's keys."""
    await node.authority.add("/me", node.me)
    async with node.channel() as channel, method.open(channel, timeout=5, metadata=metadata) as stream:
        await stream.send_message(method.request(), end=True)
        error = await end_of(stream)
    assert error.status is Status.INVALID_ARGUMENT


async def test_wep_02_the_header_twice_is_refused(node: Node):
    """Two values mean that somebody on the way added one; which of them counts must not be a matter of taste."""
    await node.authority.add("/me", node.me)
    from multidict import MultiDict

    twice = MultiDict([("workload.spiffe.io", "true"), ("workload.spiffe.io", "true")])
    async with node.channel() as channel, methods.FETCH_X509_SVID.open(channel, timeout=5, metadata=twice) as stream:
        await stream.send_message(m.X509SVIDRequest(), end=True)
        with pytest.raises(GRPCError) as caught:
            await stream.recv_message()
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_wep_05_no_identity_is_permission_denied_with_the_text_clients_know(node: Node):
    """SDKs in several languages compare this text to tell "not yet" from "broken"; another text breaks them."""
    await node.authority.add("/other", "unix:uid:4242424")
    for method, request in [
        (methods.FETCH_X509_SVID, m.X509SVIDRequest()),
        (methods.FETCH_X509_BUNDLES, m.X509BundlesRequest()),
        (methods.FETCH_JWT_SVID, m.JWTSVIDRequest(audience=["x"])),
        (methods.FETCH_JWT_BUNDLES, m.JWTBundlesRequest()),
        (methods.VALIDATE_JWT_SVID, m.ValidateJWTSVIDRequest(audience="x", svid="y")),
        (methods.FETCH_WIT_SVID, m.WITSVIDRequest()),
        (methods.FETCH_WIT_BUNDLES, m.WITBundlesRequest()),
    ]:
        error = await refusal(node, method, request)
        assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no identity issued"), method.path


async def test_wep_05_before_the_first_sync_the_answer_is_unavailable():
    """A node that knows nothing yet must say "later": "denied" would make clients give up on a booting machine."""
    from node_harness import MemoryAuthority

    async with running_node(MemoryAuthority(is_down=True)) as node:
        assert (await refusal(node, methods.FETCH_X509_SVID, m.X509SVIDRequest())).status is Status.UNAVAILABLE


async def test_wap_01_x509_svid_is_whole_and_verifies(node: Node):
    """What a workload receives must work as it is: chain, key, bundle, of the identity that its entry says."""
    await node.authority.add("/agents/planner", node.me)
    response = await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())
    svid = X509Svid.parse(response.svids[0].x509_svid, response.svids[0].x509_svid_key)
    bundle = TrustBundle.from_x509_der(TrustDomain("example.test"), response.svids[0].bundle)
    from agentshield.identity.bundle import BundleSet

    verified = verify_x509_svid(svid.chain, BundleSet.of(bundle), at=svid.not_before)
    assert str(verified.spiffe_id) == response.svids[0].spiffe_id == "spiffe://example.test/agents/planner"


async def test_wap_02_a_rotation_reaches_the_stream_as_full_state(node: Node):
    """A stream that misses a rotation leaves its workload with an expired identity."""
    await node.authority.add("/me", node.me)
    async with OpenStream(node, methods.FETCH_X509_SVID, m.X509SVIDRequest()) as stream:
        first = await stream.recv_message()
        await node.authority.rotate_ca()
        async with asyncio.timeout(5):
            while (latest := await stream.recv_message()).svids[0].x509_svid == first.svids[0].x509_svid:
                pass
        assert latest.svids[0].spiffe_id == first.svids[0].spiffe_id
        assert latest.svids[0].bundle != first.svids[0].bundle


async def test_wap_02_an_identity_added_and_taken_away_changes_the_state(node: Node):
    """Absence means redaction: a workload must stop using an identity that is no longer in the message."""
    await node.authority.add("/one", node.me)
    async with OpenStream(node, methods.FETCH_X509_SVID, m.X509SVIDRequest()) as stream:
        assert paths(await stream.recv_message()) == ["/one"]
        second = await node.authority.add("/two", node.me)
        await until(stream, lambda message: paths(message) == ["/one", "/two"])
        await node.authority.remove(second)
        await until(stream, lambda message: paths(message) == ["/one"])


async def test_wap_02_losing_the_last_identity_ends_the_stream(node: Node):
    """A suspended agent must learn it at once, and be told so in the text that its SDK knows."""
    entry = await node.authority.add("/me", node.me)
    async with OpenStream(node, methods.FETCH_X509_SVID, m.X509SVIDRequest()) as stream:
        await stream.recv_message()
        await node.authority.remove(entry)
        error = await end_of(stream)
    assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no identity issued")


async def test_wap_02_bundle_streams_do_not_repeat_themselves(node: Node):
    """A message that changes nothing makes a thousand workloads rebuild their TLS contexts for nothing."""
    await node.authority.add("/me", node.me)
    async with OpenStream(node, methods.FETCH_X509_BUNDLES, m.X509BundlesRequest()) as stream:
        await stream.recv_message()
        await node.authority.add("/me/too", node.me)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stream.recv_message()


async def test_wap_04_the_oldest_entry_is_first_and_keeps_a_contested_hint(node: Node):
    """The first SVID is the default identity; it must not change hands because somebody registered another."""
    await node.authority.add("/one", node.me, hint="internal")
    await node.authority.add("/two", node.me, hint="internal")
    await node.authority.add("/three", node.me, hint="h" * 1025)
    response = await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())
    assert [svid.hint for svid in response.svids] == ["internal", "", ""]
    assert paths(response) == ["/one", "/two", "/three"]


@pytest.mark.parametrize("audience", [[], [""], ["a", ""]])
async def test_wap_05_a_jwt_svid_without_audience_is_refused(node: Node, audience):
    """A token for nobody in particular is a token for everybody."""
    await node.authority.add("/me", node.me)
    error = await refusal(node, methods.FETCH_JWT_SVID, m.JWTSVIDRequest(audience=audience))
    assert error.status is Status.INVALID_ARGUMENT


@pytest.mark.parametrize(("audience", "svid"), [("", "a.b.c"), ("x", "")])
async def test_wap_05_validation_needs_audience_and_token(node: Node, audience, svid):
    """A missing audience must not be read as "any"."""
    await node.authority.add("/me", node.me)
    request = m.ValidateJWTSVIDRequest(audience=audience, svid=svid)
    assert (await refusal(node, methods.VALIDATE_JWT_SVID, request)).status is Status.INVALID_ARGUMENT


async def test_wap_05_a_malformed_spiffe_id_is_an_invalid_argument(node: Node):
    """A caller's slip is named as such, and not hidden behind "denied"."""
    await node.authority.add("/me", node.me)
    request = m.JWTSVIDRequest(audience=["x"], spiffe_id="https://example.test/me")
    assert (await refusal(node, methods.FETCH_JWT_SVID, request)).status is Status.INVALID_ARGUMENT


async def test_wap_05_bytes_that_are_no_message_are_an_invalid_argument(node: Node, caplog):
    """Garbage is the caller's mistake: answered as that, without a traceback that buries the log."""
    await node.authority.add("/me", node.me)
    not_text = m.X509SVID(x509_svid=b"\xff")  # where a JWTSVIDRequest has text
    garbage = methods.Method(path=methods.FETCH_JWT_SVID.path, request=m.X509SVID, reply=m.JWTSVIDResponse)
    error = await refusal(node, garbage, not_text)
    assert error.status is Status.INVALID_ARGUMENT
    assert "Traceback" not in caplog.text


async def test_wap_06_07_each_profile_gets_its_own_kind_of_key(node: Node):
    """An X.509 root in a JWT bundle, or the reverse, would let one kind of authority forge the other's documents."""
    await node.authority.add("/me", node.me)
    x509 = await node.first(methods.FETCH_X509_BUNDLES, m.X509BundlesRequest())
    jwt = await node.first(methods.FETCH_JWT_BUNDLES, m.JWTBundlesRequest())
    assert len(split_der_certificates(x509.bundles["spiffe://example.test"])) == 1
    keys = json.loads(jwt.bundles["spiffe://example.test"])["keys"]
    assert [(key["kid"], "x5c" in key) for key in keys] == [("jwt-1", False)]


async def test_federated_bundles_go_to_those_who_federate_only(node: Node):
    """A workload that nobody federated must not come to trust the partner."""
    partner = foreign_bundle()
    await node.authority.federate(partner)
    entry = await node.authority.add("/me", node.me)
    response = await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())
    assert dict(response.federated_bundles) == {}
    await node.authority.remove(entry)
    await node.authority.add("/me", node.me, federates_with=(partner.trust_domain,))
    response = await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())
    assert dict(response.federated_bundles) == {"spiffe://partner.test": partner.x509_der()}
    bundles = await node.first(methods.FETCH_X509_BUNDLES, m.X509BundlesRequest())
    assert set(bundles.bundles) == {"spiffe://example.test", "spiffe://partner.test"}


async def test_wap_08_validation_uses_the_bundle_of_the_subjects_trust_domain(node: Node):
    """A partner's key must not vouch for our names, nor a stranger's for anybody's."""
    await node.authority.add("/me", node.me)
    issued = await node.first(methods.FETCH_JWT_SVID, m.JWTSVIDRequest(audience=["svc-b", "svc-c"]))
    token = issued.svids[0].svid
    good = await node.first(methods.VALIDATE_JWT_SVID, m.ValidateJWTSVIDRequest(audience="svc-c", svid=token))
    assert good.spiffe_id == "spiffe://example.test/me"
    assert list(good.claims["aud"]) == ["svc-b", "svc-c"]
    for audience, svid in [("other", token), ("svc-b", token[:-8] + "AAAAAAAA"), ("svc-b", "no.token.this")]:
        request = m.ValidateJWTSVIDRequest(audience=audience, svid=svid)
        assert (await refusal(node, methods.VALIDATE_JWT_SVID, request)).status is Status.INVALID_ARGUMENT


async def test_a_jwt_svid_for_another_identity_is_denied(node: Node):
    """Naming an identity is not having it."""
    await node.authority.add("/me", node.me)
    await node.authority.add("/other", "unix:uid:4242424")
    request = m.JWTSVIDRequest(audience=["x"], spiffe_id="spiffe://example.test/other")
    assert (await refusal(node, methods.FETCH_JWT_SVID, request)).status is Status.PERMISSION_DENIED


async def test_jwt_svids_come_for_every_identity_or_for_the_one_named(node: Node):
    """A workload with two identities chooses; none is chosen for it in silence."""
    await node.authority.add("/one", node.me)
    await node.authority.add("/two", node.me)
    every = await node.first(methods.FETCH_JWT_SVID, m.JWTSVIDRequest(audience=["x"]))
    assert paths(every) == ["/one", "/two"]
    request = m.JWTSVIDRequest(audience=["x"], spiffe_id="spiffe://example.test/two")
    assert paths(await node.first(methods.FETCH_JWT_SVID, request)) == ["/two"]


async def test_unidentified_verifiers_get_bundles_only_where_that_is_switched_on():
    """A verifier without an identity is allowed by name; it still gets no identity by it."""
    async with running_node(unidentified_verifiers=UnidentifiedVerifiers.ALLOWED) as node:
        bundles = await node.first(methods.FETCH_X509_BUNDLES, m.X509BundlesRequest())
        assert set(bundles.bundles) == {"spiffe://example.test"}
        assert (await refusal(node, methods.FETCH_X509_SVID, m.X509SVIDRequest())).status is Status.PERMISSION_DENIED


async def test_an_entry_created_while_a_workload_asks_again_is_served_at_once(node: Node):
    """Registration to identity is a push: nobody waits for a poll."""
    await refusal(node, methods.FETCH_X509_SVID, m.X509SVIDRequest())
    await node.authority.add("/me", node.me)
    started = asyncio.get_running_loop().time()
    while True:
        try:
            await node.first(methods.FETCH_X509_SVID, m.X509SVIDRequest())
        except GRPCError:
            await asyncio.sleep(0.005)
        else:
            break
    assert asyncio.get_running_loop().time() - started < 2.0


async def test_wep_06_reflection_describes_the_standard_service(node: Node):
    """`grpcurl` users need no .proto file; what they see are the standard's names, not ours."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from grpclib.reflection.v1.reflection_grpc import ServerReflectionStub
    from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest

    async with node.channel() as channel:
        stub = ServerReflectionStub(channel)
        listed, described = await stub.ServerReflectionInfo(
            [
                ServerReflectionRequest(list_services=""),
                ServerReflectionRequest(file_containing_symbol="SpiffeWorkloadAPI"),
            ]
        )
    names = {service.name for service in listed.list_services_response.service}
    assert {"SpiffeWorkloadAPI", "grpc.health.v1.Health", "agentshield.node.v1.Launch"} <= names
    file = FileDescriptorProto.FromString(described.file_descriptor_response.file_descriptor_proto[0])
    assert file.package == ""
    assert len(file.service[0].method) == 7


async def test_health_says_serving_once_the_first_entries_have_come(node: Node):
    """An orchestrator starts workloads when we say so; saying it too early makes them fail."""
    from grpclib.health.v1.health_grpc import HealthStub
    from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

    async with node.channel() as channel:
        assert (await HealthStub(channel).Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING


def paths(response) -> list[str]:
    return [svid.spiffe_id.removeprefix("spiffe://example.test") for svid in response.svids]


class OpenStream:
    """A call that stays open."""

    def __init__(self, node: Node, method: methods.Method, request: object) -> None:
        self._channel = Channel(path=str(node.socket))
        self._method, self._request = method, request

    async def __aenter__(self):
        self._call = self._method.open(self._channel, metadata=methods.WORKLOAD_METADATA)
        stream = await self._call.__aenter__()
        await stream.send_message(self._request, end=True)
        return stream

    async def __aexit__(self, *error):
        try:
            if error[0] is None:
                await self._call.cancel()
            await self._call.__aexit__(None, None, None)
        except Exception:
            pass
        self._channel.close()


async def end_of(stream) -> GRPCError:
    """The error that a call ends with, after whatever messages."""
    try:
        async with asyncio.timeout(5):
            async for _ in stream:
                pass
            await stream.recv_trailing_metadata()
    except GRPCError as error:
        return error
    raise AssertionError("the call ended well")


async def until(stream, condition) -> None:
    async with asyncio.timeout(5):
        while not condition(await stream.recv_message()):
            pass
