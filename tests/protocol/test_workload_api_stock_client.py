"""The `spiffe` package from the index, unmodified, against our socket: what its users do must work as it is."""

from datetime import timedelta

from node_harness import Node, foreign_bundle, node

__all__ = ["node"]

EVERYTHING = """
from spiffe import JwtSource, WorkloadApiClient

with WorkloadApiClient(default_timeout=5) as client:
    context = client.fetch_x509_context()
    print(context.default_svid.spiffe_id, len(context.default_svid.cert_chain))
    print(sorted(str(bundle.trust_domain) for bundle in context.x509_bundle_set.bundles))
    print(len(client.fetch_x509_svids()), client.fetch_x509_svid().spiffe_id)
    print(sorted(str(bundle.trust_domain) for bundle in client.fetch_x509_bundles().bundles))
    print(sorted(str(bundle.trust_domain) for bundle in client.fetch_jwt_bundles().bundles))
    svid = client.fetch_jwt_svid(audience={"svc-b", "svc-c"})
    print(svid.spiffe_id, sorted(svid.audience))
    print(client.validate_jwt_svid(svid.token, "svc-c").spiffe_id)
    try:
        client.validate_jwt_svid(svid.token, "svc-d")
    except Exception as error:
        print("refused", type(error).__name__)
with JwtSource() as source:
    print(source.fetch_svid(audience={"svc-b"}).spiffe_id)
"""

ROTATIONS = """
import threading
from spiffe import X509Source

with X509Source(timeout_in_seconds=10) as source:
    seen, enough = [source.get_x509_context().default_svid.leaf.serial_number], threading.Event()

    def updated():
        seen.append(source.get_x509_context().default_svid.leaf.serial_number)
        if len(set(seen)) >= 4:
            enough.set()

    source.subscribe_for_updates(updated)
    print("subscribed", flush=True)
    assert enough.wait(20), seen
    print("rotations", len(set(seen)) - 1)
"""

NOBODY = """
from spiffe import WorkloadApiClient

with WorkloadApiClient(default_timeout=5) as client:
    try:
        client.fetch_x509_svid()
    except Exception as error:
        print(error)
"""


async def test_everything_the_stock_client_can_ask_for(node: Node):
    """Users have this client in production; an endpoint that fails it is not a SPIFFE Workload API to them."""
    partner = foreign_bundle()
    await node.authority.federate(partner)
    await node.authority.add("/agents/planner", node.me, federates_with=(partner.trust_domain,))
    printed = (await node.run(EVERYTHING)).splitlines()
    both = "['example.test', 'partner.test']"
    assert printed == [
        "spiffe://example.test/agents/planner 1",
        both,
        "1 spiffe://example.test/agents/planner",
        both,
        both,
        "spiffe://example.test/agents/planner ['svc-b', 'svc-c']",
        "spiffe://example.test/agents/planner",
        printed[7],
        "spiffe://example.test/agents/planner",
    ]
    assert printed[7].startswith("refused ")


async def test_an_x509_source_lives_through_three_rotations(node: Node):
    """A source that misses rotations goes on with an expired certificate, and nobody sees why calls begin to fail."""
    node.authority.ttl = timedelta(seconds=4)
    await node.authority.add("/agents/planner", node.me)
    printed = await node.run(ROTATIONS)
    assert printed.splitlines() == ["subscribed", "rotations 3"]


async def test_the_stock_client_hears_no_identity_issued(node: Node):
    """The text is what its users search for."""
    assert "no identity issued" in await node.run(NOBODY)
