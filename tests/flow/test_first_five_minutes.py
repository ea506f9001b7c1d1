"""The agent developer's first five minutes (users.md 1.2): the commands as written, with the outcomes as stated."""

import json
import os
import re
import signal
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.identity.issue import X509Issuer
from agentshield.identity.spiffe_id import TrustDomain

PORT = 8443


@pytest.fixture
def port(free_port):
    """8443, as written; where this machine uses it for something else, another."""
    with socket.socket() as probe:
        return free_port if probe.connect_ex(("127.0.0.1", PORT)) == 0 else PORT


def ready_seconds(desk):
    """How long from typing `agentshield up` to its box."""
    began = time.monotonic()
    up = desk.up()
    seconds = time.monotonic() - began
    return up, seconds


def test_first_five_minutes(desk, port):
    """A developer who types what the README says must see what it says, or closes the tab."""
    up = desk.up()
    box = desk.log_of(up)
    for said in ("example.test", f"unix://{desk.state}/run/workload.sock", "spiffe://example.test", "agentshield down"):
        assert said in box
    assert "development mode: workload attestation is by user id" in box

    status = desk.type("agentshield status -o json")
    assert status.code == 0
    assert {name: status.data[name] for name in ("trust_domain", "workload_api", "issuer", "state_dir")} == {
        "trust_domain": "example.test",
        "workload_api": f"unix://{desk.state}/run/workload.sock",
        "issuer": "spiffe://example.test",
        "state_dir": str(desk.state),
    }

    for name in ("planner", "analyst"):
        created = desk.type(f"agentshield agent create {name}")
        assert created.code == 0
        assert f"spiffe://example.test/agents/{name}" in created.out
        assert f"agentshield run --as {name}" in created.err  # the next command, ready to copy

    assert desk.type("agentshield init --framework fastapi").code == 0
    assert {path.name for path in desk.home.glob("*.py")} == {"analyst.py", "planner.py"}

    analyst = desk.start("agentshield run --as analyst -- uvicorn analyst:app", UVICORN_PORT=str(port))
    desk.wait_for(analyst, "analyst listening, mTLS, callers allowed: none yet")
    desk.wait_for(analyst, "Uvicorn running")

    call = f"agentshield call https://localhost:{port}/hello --as planner"
    denied = desk.type(call)
    assert denied.code == 3
    assert '"status": 403' in denied.out
    assert "decision  deny (default-deny: no rule allows it)" in denied.err
    allow = re.search(r"allow it  (.*)", denied.err).group(1)
    assert allow == "agentshield policy allow planner analyst hello"

    allowed = desk.type(allow)
    assert allowed.code == 0
    assert "+  - who: planner" in allowed.err  # the difference in the policy file

    answered = desk.type(call)
    assert answered.code == 0
    assert answered.out == '{"answer":"hello","caller":"spiffe://example.test/agents/planner"}\n'
    desk.wait_for(analyst, "hello called by spiffe://example.test/agents/planner")

    planner = desk.type(f"sed -i s/8443/{port}/ planner.py && agentshield run --as planner -- python planner.py")
    assert (planner.code, planner.out[:3]) == (0, "200")

    suspended = desk.type("agentshield agent suspend planner")
    assert suspended.code == 0
    assert "1 of 1 enforcement points" in suspended.out
    refused = desk.type(call)
    assert refused.code == 3
    assert "planner is suspended" in refused.err
    assert "agentshield agent resume planner" in refused.err

    assert desk.type("agentshield agent resume planner").code == 0
    assert desk.type(call).code == 0
    assert desk.type("agentshield audit verify").code == 0
    assert desk.type("agentshield down").code == 0
    assert up.wait(timeout=20) == 0
    assert desk.type("agentshield status").code == 5


def test_up_is_ready_in_three_seconds_and_small(desk):
    """Three seconds is what a person waits without looking elsewhere; 150 MB is what a laptop does not notice."""
    up, seconds = ready_seconds(desk)
    if seconds >= 3:  # another test had the processors: the second start tells
        assert desk.type("agentshield down").code == 0
        up, seconds = ready_seconds(desk)
    assert seconds < 3
    assert resident_kilobytes(up.pid) < 150_000


def resident_kilobytes(pid):
    """The resident memory of a process and its children."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        own = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
        return own + sum(resident_kilobytes(int(child)) for child in children)
    except FileNotFoundError:
        pytest.skip("this platform has no /proc to read memory from")


def test_a_detached_up_keeps_its_state_over_a_restart(desk):
    """What was created yesterday must be there today, under the same keys."""
    assert desk.type("agentshield up --detach").code == 0
    try:
        desk.type("agentshield agent create planner")
        bundle = desk.type("agentshield bundle show --format spiffe").data
        assert desk.type("agentshield down").code == 0
        assert desk.type("agentshield up --detach").code == 0
        assert desk.type("agentshield agent list -o name").out == "planner\n"
        assert desk.type("agentshield bundle show --format spiffe").data["keys"] == bundle["keys"]
        assert desk.type("agentshield whoami --as planner -o name").out == "spiffe://example.test/agents/planner\n"
        assert len(desk.type("agentshield node list -o name").out.splitlines()) == 1
    finally:
        assert desk.type("agentshield down --purge --yes").code == 0
    assert not desk.state.exists()


def test_an_ephemeral_up_forgets_everything(desk):
    """Who tries something out must not have to clean up after it."""
    up = desk.start("agentshield up --ephemeral -o jsonl")
    facts = json.loads(desk.wait_for(up, "workload_api").splitlines()[0])
    state = Path(facts["state_dir"])
    assert state.is_dir()
    assert desk.type(f"agentshield agent create x --state-dir {state}").code == 0
    up.terminate()
    assert up.wait(timeout=20) == 0
    assert not state.exists()
    assert not desk.state.exists()


def test_a_suspension_that_not_everybody_confirmed_says_so(desk, free_port):
    """Security operations must know who still decides by the old state: exit code 7, not a comfortable 0."""
    desk.up()
    desk.type("agentshield agent create planner && agentshield agent create analyst && agentshield init")
    analyst = desk.start("agentshield run --as analyst -- uvicorn analyst:app", UVICORN_PORT=str(free_port))
    desk.wait_for(analyst, "Uvicorn running")
    assert desk.type(f"agentshield ping localhost:{free_port} --as planner").code == 0
    os.killpg(analyst.pid, signal.SIGSTOP)
    try:
        partial = desk.type("agentshield agent suspend planner --timeout 2 -o json")
    finally:
        os.killpg(analyst.pid, signal.SIGCONT)
    assert partial.code == 7
    assert (partial.data["confirmed"], partial.data["enforcement_points"]) == (0, 1)
    assert "have not confirmed" in partial.err
    again = desk.type("agentshield agent suspend planner -o json")
    assert (again.code, again.data["confirmed"]) == (0, 1)


def test_the_commands_of_spire_and_of_the_seed_article(desk):
    """Who comes from SPIRE, or from the article, types what is printed there."""
    desk.up("--trust-domain nextriad.ai")
    seed = desk.type(
        "agentshield entry create -spiffeID spiffe://nextriad.ai/agent-a -selector k8s:ns:production "
        "-selector k8s:pod-label:app:agent-a -ttl 3600 -output json"
    )
    assert seed.code == 0
    assert seed.data["selectors"] == ["k8s:ns:production", "k8s:pod-label:app:agent-a"]
    assert (seed.data["x509_svid_ttl"], seed.data["jwt_svid_ttl"]) == (3600, 3600)
    spire = desk.type(
        "agentshield entry create -parentID spiffe://nextriad.ai/nodes/all -spiffeID spiffe://nextriad.ai/b "
        "-selector unix:uid:7 -x509SVIDTTL=60 -jwtSVIDTTL 30 -federatesWith spiffe://other.test -dns b.test "
        "-hint x -admin -downstream -entryExpiry 1900000000 -output json"
    )
    assert spire.code == 0
    expected = {
        "admin": True,
        "downstream": True,
        "dns_names": ["b.test"],
        "federates_with": ["other.test"],
        "hint": "x",
    }
    assert expected.items() <= spire.data.items()
    again = desk.type("agentshield entry create -spiffeID spiffe://nextriad.ai/b -selector unix:uid:7")
    assert again.code == 6
    assert desk.type("agentshield entry count -o name").out == "3\n"  # these two, and the alias of every node
    updated = desk.type(f"agentshield entry update -entryID {seed.data['id']} -hint better -output json")
    assert (updated.data["hint"], updated.data["spiffe_id"]) == ("better", "spiffe://nextriad.ai/agent-a")
    assert desk.type(f"agentshield entry delete -entryID {seed.data['id']}").code == 2  # nobody there to ask
    assert desk.type(f"agentshield entry delete -entryID {seed.data['id']} --yes").code == 0
    assert desk.type(f"agentshield entry show {seed.data['id']}").code == 6


def test_policy_check_and_the_rest_of_policy(desk):
    """Scripts decide by exit codes: 0 is yes, 3 is no, and neither is ever something else."""
    desk.up()
    desk.type("agentshield agent create planner && agentshield agent create analyst")
    assert desk.type("agentshield policy check planner analyst hello").code == 3
    assert desk.type("agentshield policy allow planner analyst hello").code == 0
    assert desk.type("agentshield policy check planner analyst hello").code == 0
    assert desk.type("agentshield policy check planner analyst goodbye").code == 3
    assert desk.type("agentshield policy check stranger analyst hello").code == 3
    again = desk.type("agentshield policy allow planner analyst hello")
    assert (again.code, "nothing changed" in again.err) == (0, True)
    assert desk.type("agentshield policy diff").code == 0
    rules = desk.state / "policy" / "rules.yaml"
    rules.write_text(rules.read_text().replace("hello", "goodbye"))
    changed = desk.type("agentshield policy diff")
    assert changed.code == 3
    assert "goodbye" in changed.out
    (desk.state / "policy" / "tests.yaml").write_text(
        "tests:\n  - {name: hello stays, caller: planner, callee: analyst, action: hello, expect: allow}\n"
    )
    assert desk.type("agentshield policy test").code == 3
    assert desk.type("agentshield policy apply").code == 3  # its tests fail
    assert desk.type("agentshield policy check planner analyst hello").code == 0  # so the one before holds
    (desk.state / "policy" / "tests.yaml").unlink()
    assert desk.type("agentshield policy apply").code == 0
    assert desk.type("agentshield policy check planner analyst hello").code == 3
    assert len(desk.type("agentshield policy history -o json").data["items"]) == 3


def test_join_tokens_nodes_and_bundles(desk):
    """A node agent on another machine is admitted once, by a token that never stands on a command line."""
    up = desk.up()
    assert desk.type("agentshield join-token create --out token").code == 0
    assert (desk.home / "token").stat().st_mode & 0o777 == 0o600
    [waiting] = desk.type("agentshield join-token list -o json").data["items"]
    assert (desk.home / "token").read_text().strip() not in str(waiting)
    desk.type("agentshield bundle show --format pem > bundle.pem")
    server = desk.type("agentshield status -o json").data["authority"]
    run = (
        f"agentshield node run --server {server} --trust-domain example.test --trust-bundle bundle.pem "
        "--join-token-file token --state-dir node2"
    )
    second = desk.start(run)
    desk.wait_for(second, "Workload API at")
    deadline = time.monotonic() + 20
    while len(nodes := desk.type("agentshield node list -o name").out.split()) < 2:
        assert time.monotonic() < deadline
        assert second.poll() is None, desk.log_of(second)
    desk.type("agentshield agent create planner")
    other_socket = f"unix://{desk.home}/node2/run/workload.sock"
    shown = desk.type(f"SPIFFE_ENDPOINT_SOCKET={other_socket} agentshield entry explain -o json")
    assert shown.code == 3
    assert shown.data["nearest"][0]["spiffe_id"] == "spiffe://example.test/agents/planner"
    assert desk.type("agentshield join-token list -o name").out == ""
    token_id = desk.type("agentshield join-token create -o json").data["id"]
    assert desk.type(f"agentshield join-token revoke {token_id}").code == 0
    assert desk.type(f"agentshield join-token revoke {token_id}").code == 6
    for node in nodes:
        assert desk.type(f"agentshield node show {node}").code == 0
        assert desk.type(f"agentshield node ban {node} --yes").code == 0
        assert desk.type(f"agentshield node show {node} -o json").data["state"] == "banned"
        assert desk.type(f"agentshield node evict {node} --yes").code == 0
        assert desk.type(f"agentshield node show {node}").code == 6
    ours_as_theirs = desk.type("agentshield bundle set other.test --format pem --file bundle.pem")
    assert (ours_as_theirs.code, "trust domain example.test" in ours_as_theirs.err) == (2, True)
    now = datetime.now(UTC)
    theirs = X509Issuer.self_signed(TrustDomain("other.test"), not_before=now, not_after=now + timedelta(days=1))
    (desk.home / "other.pem").write_bytes(theirs.certificate.public_bytes(Encoding.PEM))
    assert desk.type("agentshield bundle set other.test --format pem --file other.pem").code == 0
    assert desk.type("agentshield bundle list -o name").out.split() == ["example.test", "other.test"]
    assert (
        desk.type("agentshield bundle set example.test --format pem --file bundle.pem").code == 3
    )  # ours is not to be set
    assert desk.type("agentshield bundle delete other.test --yes").code == 0
    assert up.poll() is None
