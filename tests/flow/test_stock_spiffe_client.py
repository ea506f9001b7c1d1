"""The `spiffe` package from the index, unmodified, inside `agentshield run`: a user's program needs no change."""

import re

EVERYTHING = """
import threading
from spiffe import JwtSource, WorkloadApiClient, X509Source

with WorkloadApiClient() as client:
    context = client.fetch_x509_context()
    print("x509", context.default_svid.spiffe_id, len(context.default_svid.cert_chain))
    print("bundles", sorted(str(bundle.trust_domain) for bundle in context.x509_bundle_set.bundles))
    svid = client.fetch_jwt_svid(audience={"billing", "refunds"})
    print("jwt", svid.spiffe_id, sorted(svid.audience))
    print("validated", client.validate_jwt_svid(svid.token, "refunds").spiffe_id)
    try:
        client.validate_jwt_svid(svid.token, "somebody-else")
    except Exception as error:
        print("refused", type(error).__name__)
    print("jwt bundles", sorted(str(bundle.trust_domain) for bundle in client.fetch_jwt_bundles().bundles))
with JwtSource() as source:
    print("jwt source", source.fetch_svid(audience={"billing"}).spiffe_id)
with X509Source(timeout_in_seconds=10) as source:
    serials, enough = {source.svid.leaf.serial_number}, threading.Event()

    def updated():
        serials.add(source.svid.leaf.serial_number)
        if len(serials) > 3:
            enough.set()

    source.subscribe_for_updates(updated)
    print("rotated three times", enough.wait(30))
"""


def test_the_stock_client_under_agentshield_run(desk):
    """People have this client in their programs; an endpoint that fails it is not a SPIFFE Workload API to them."""
    desk.up()
    assert desk.type("agentshield agent create worker --ttl 6s").code == 0
    (desk.home / "worker.py").write_text(EVERYTHING)
    worker = desk.type("agentshield run --as worker -- python worker.py", timeout=90)
    assert worker.code == 0, worker.err
    name = "spiffe://example.test/agents/worker"
    lines = worker.out.splitlines()
    assert re.fullmatch(rf"x509 {name} \d", lines[0])
    assert lines[1:4] == ["bundles ['example.test']", f"jwt {name} ['billing', 'refunds']", f"validated {name}"]
    assert lines[4].startswith("refused ")
    assert lines[5:] == ["jwt bundles ['example.test']", f"jwt source {name}", "rotated three times True"]


def test_the_same_program_without_the_launcher_gets_nothing(desk):
    """Same user, same interpreter, same file: only the launcher's word makes it that agent."""
    desk.up()
    desk.type("agentshield agent create worker --ttl 6s")
    (desk.home / "worker.py").write_text(EVERYTHING)
    socket = f"SPIFFE_ENDPOINT_SOCKET=unix://{desk.state}/run/workload.sock"
    worker = desk.type(f"{socket} timeout 20 python worker.py", timeout=60)
    assert worker.code != 0
    assert worker.out == ""
    assert "no identity issued" in worker.err
