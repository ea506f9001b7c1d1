"""The WIT-SVID profile of the Workload API, over a real socket: keys and tokens that another library can use."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from joserfc import jwt
from joserfc.jwk import ECKey
from node_harness import TRUST_DOMAIN, MemoryAuthority, Node, foreign_bundle, node, running_node

from agentshield.clock import system_clock
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.wit_svid import verify_wit_svid
from agentshield.identity.workload_proof import verify_workload_proof
from agentshield.node import workloads
from agentshield.sdk.errors import NotOfferedError
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import workload_pb2 as m

__all__ = ["node"]


async def refusal(node: Node, request: m.WITSVIDRequest) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await node.first(methods.FETCH_WIT_SVID, request)
    return caught.value


async def wits(node: Node, spiffe_id: str = "") -> list[m.WITSVID]:
    return list((await node.first(methods.FETCH_WIT_SVID, m.WITSVIDRequest(spiffe_id=spiffe_id))).svids)


async def trusted(node: Node) -> BundleSet:
    """The bundles as a verifier fetches them."""
    answer = await node.first(methods.FETCH_WIT_BUNDLES, m.WITBundlesRequest())
    jwks = answer.bundles["spiffe://example.test"]
    return BundleSet.of(TrustBundle.from_wit_jwks(TRUST_DOMAIN, jwks.encode()))


@asynccontextmanager
async def following(node: Node):
    """The stream of WIT-SVIDs, and whatever it brings next."""
    async with node.channel() as channel:
        call = methods.FETCH_WIT_SVID.open(channel, metadata=methods.WORKLOAD_METADATA)
        stream = await call.__aenter__()
        await stream.send_message(m.WITSVIDRequest(), end=True)
        try:
            yield stream
        finally:
            with suppress(Exception):  # whatever is left of a call that has ended
                await stream.cancel()
                await call.__aexit__(None, None, None)


async def end_of(stream) -> None:
    """Read on until the call ends, and raise what it ended with."""
    async for _ in stream:
        pass
    await stream.recv_trailing_metadata()


async def test_a_wit_and_its_key_prove_who_the_workload_is(node: Node):
    """Another library reads the key as it comes and signs with it; whoever fetched the bundle believes the proof."""
    await node.authority.add("/agents/planner", node.me, hint="h")
    (svid,) = await wits(node)
    assert (svid.spiffe_id, svid.hint) == ("spiffe://example.test/agents/planner", "h")
    key = ECKey.import_key(json.loads(svid.wit_svid_key))
    assert key.as_dict()["alg"] == "ES256"
    now = system_clock()
    wit = verify_wit_svid(svid.wit_svid, await trusted(node), at=now)
    claims = {"aud": "https://b.test", "exp": int(now.timestamp()) + 60, "jti": "j", "wth": wit.token_hash}
    proof = jwt.encode({"alg": "ES256", "typ": "wpt+jwt"}, claims, key)
    assert str(verify_workload_proof(proof, wit, audience="https://b.test", at=now).spiffe_id) == svid.spiffe_id


async def test_wsv_08_a_wit_is_kept_and_shared_by_its_entry(node: Node):
    """A fleet that asks for each request must not make the authority sign for each."""
    await node.authority.add("/one", node.me)
    await node.authority.add("/two", node.me)
    first = await wits(node)
    assert [each.spiffe_id.rpartition("/")[2] for each in first] == ["one", "two"]
    assert await wits(node) == first
    assert node.authority.wit_calls == 2
    assert first[0].wit_svid_key != first[1].wit_svid_key  # one identifier for each key


async def test_the_identity_that_is_named_is_given_alone(node: Node):
    """And only to whom it belongs."""
    await node.authority.add("/one", node.me)
    await node.authority.add("/two", node.me)
    await node.authority.add("/other", "unix:uid:4242424")
    (two,) = await wits(node, "spiffe://example.test/two")
    assert two.spiffe_id == "spiffe://example.test/two"
    error = await refusal(node, m.WITSVIDRequest(spiffe_id="spiffe://example.test/other"))
    assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no identity issued")
    assert (await refusal(node, m.WITSVIDRequest(spiffe_id="https://x.test"))).status is Status.INVALID_ARGUMENT


async def test_wap_02_a_wit_is_replaced_at_half_its_life(node: Node, monkeypatch):
    """The stream brings the next one, with another key, long before the first ends."""
    monkeypatch.setattr(workloads, "RETRY", 0.05)
    node.authority.wit_ttl = timedelta(seconds=4)
    await node.authority.add("/me", node.me)
    async with following(node) as stream, asyncio.timeout(10):
        first = (await stream.recv_message()).svids[0]
        second = (await stream.recv_message()).svids[0]
    assert second.wit_svid_key != first.wit_svid_key
    assert verify_wit_svid(first.wit_svid, await trusted(node), at=system_clock())


async def test_a_tainted_authority_s_wits_are_replaced_at_once(node: Node):
    """Its key has leaked: whatever it signed is to be gone before it is taken out of the bundle."""
    await node.authority.add("/me", node.me)
    async with following(node) as stream, asyncio.timeout(5):
        first = (await stream.recv_message()).svids[0]
        await node.authority.taint_wit()
        second = (await stream.recv_message()).svids[0]
    assert first.wit_svid != second.wit_svid


async def test_losing_the_last_identity_ends_the_stream(node: Node):
    """A suspended agent must learn it at once, and be told so in the text that its SDK knows."""
    entry = await node.authority.add("/me", node.me)
    async with following(node) as stream, asyncio.timeout(5):
        await stream.recv_message()
        await node.authority.remove(entry)
        with pytest.raises(GRPCError) as caught:
            await end_of(stream)
    assert (caught.value.status, caught.value.message) == (Status.PERMISSION_DENIED, "no identity issued")


async def test_an_identity_added_and_taken_away_changes_the_state(node: Node):
    """Absence means redaction."""
    await node.authority.add("/one", node.me)
    async with following(node) as stream, asyncio.timeout(5):
        assert len((await stream.recv_message()).svids) == 1
        two = await node.authority.add("/two", node.me)
        assert len((await stream.recv_message()).svids) == 2
        await node.authority.remove(two)
        assert len((await stream.recv_message()).svids) == 1


async def test_while_the_authority_is_away_the_held_wit_is_given_until_it_ends(node: Node):
    """An outage shorter than a token's life is none for workloads; afterwards nothing expired is handed out."""
    node.authority.wit_ttl = timedelta(seconds=3)
    await node.authority.add("/me", node.me)
    first = await wits(node)
    node.authority.is_down = True
    await asyncio.sleep(2)  # past half its life
    assert await wits(node) == first
    await asyncio.sleep(1.5)
    assert (await refusal(node, m.WITSVIDRequest())).status is Status.UNAVAILABLE


async def test_wep_05_an_authority_that_issues_none_makes_the_profile_unimplemented(node: Node, monkeypatch):
    """A SPIRE server has no such call: clients stop asking instead of trying again for ever."""

    async def refuse(*_):
        raise NotOfferedError("no such method")

    monkeypatch.setattr(node.authority, "issue_wit_svid", refuse)
    await node.authority.add("/me", node.me)
    assert (await refusal(node, m.WITSVIDRequest())).status is Status.UNIMPLEMENTED


async def test_wep_05_before_the_first_sync_the_answer_is_unavailable():
    """As with every other method."""
    async with running_node(MemoryAuthority(is_down=True)) as node:
        assert (await refusal(node, m.WITSVIDRequest())).status is Status.UNAVAILABLE


async def test_wap_06_bundles_have_wit_keys_alone_and_of_those_it_federates_with(node: Node):
    """Another kind's key among them would sign WITs for whoever holds it."""
    await node.authority.federate(foreign_bundle())
    await node.authority.add("/me", node.me, federates_with=(foreign_bundle().trust_domain,))
    answer = await node.first(methods.FETCH_WIT_BUNDLES, m.WITBundlesRequest())
    assert set(answer.bundles) == {"spiffe://example.test", "spiffe://partner.test"}
    keys = json.loads(answer.bundles["spiffe://example.test"])["keys"]
    assert [(each["use"], each["kid"]) for each in keys] == [("wit-svid", "wit-1")]
    assert json.loads(answer.bundles["spiffe://partner.test"]) == {"keys": []}
    jwt_answer = await node.first(methods.FETCH_JWT_BUNDLES, m.JWTBundlesRequest())
    assert b"wit-svid" not in jwt_answer.bundles["spiffe://example.test"]  # WAP-07
