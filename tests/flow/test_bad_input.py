"""Bad input is a clear error and loses nothing (issue: what it must show, 5)."""

import os
import resource
import signal
import subprocess
import time

import pytest

from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.sdk.clients.authority import AuthorityClient, authority_context

LONG = "a" * 2049


def refused(result, code, *said):
    """A refusal: its exit code, four lines for a person, nothing on stdout, no trace of Python."""
    assert result.code == code, (result.code, result.out, result.err)
    assert result.out == ""
    assert "Traceback" not in result.err
    assert result.err.startswith("error: ")
    assert "code:  " in result.err
    assert len(result.err) < 2000  # bad input is not thrown back at the terminal
    for each in said:
        assert each in result.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("agentshield entry create -spiffeID spiffe://example.test/LONG -selector unix:uid:1", "2048"),
        ("agentshield entry create -spiffeID spiffe://example.test/../x -selector unix:uid:1", "relative segment"),
        ("agentshield entry create -spiffeID spiffe://example.test//x -selector unix:uid:1", "empty segment"),
        ("agentshield entry create -spiffeID spiffe://example.test/x%2e -selector unix:uid:1", "may hold only"),
        ("agentshield entry create -spiffeID SPIFFE://example.test/x -selector unix:uid:1", "spiffe://"),
        ("agentshield entry create -spiffeID example.test/x -selector unix:uid:1", "spiffe://"),
        ("agentshield entry create -spiffeID spiffe://example.test/x -selector nocolon", "selector"),
        ("agentshield entry create -spiffeID spiffe://example.test/x", "--selector"),
        ("agentshield entry create -spiffeID spiffe://example.test/x -selector unix:uid:1 -ttl -5", "duration"),
        ("agentshield entry create -spiffeID spiffe://example.test/x -selector unix:uid:1 -dns 'a b'", "DNS name"),
        ("agentshield entry create -spifeID spiffe://example.test/x", "'-spiffeID'"),
        ("agentshield agent create ../../etc/passwd", "agent name"),
        ("agentshield agent create LONG", "agent name"),
        ("agentshield agent create Planner", "a-z"),
        ("agentshield agent creat planner", "'create'"),
        ("agentshield polcy check a b c", "'policy'"),
        ("agentshield agent create planner --ownr me", "'--owner'"),
        ("agentshield join-token create --ttl never", "duration"),
        ("agentshield up --trust-domain UPPER.test --state-dir other", "a-z"),
        ("agentshield audit search --since yesterday", "not a time"),
        ("agentshield audit search --limit 999999999", "10000"),
        ("printf 'ey.not.a-token' | agentshield svid inspect -", ""),
        ("printf '%s' '-----BEGIN CERTIFICATE-----\nMIIB' | agentshield svid inspect -", "PEM"),
        ("head -c 1000000 /dev/urandom | agentshield svid inspect -", ""),
        ("printf '' | agentshield svid inspect -", ""),
        ("agentshield whois eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "command line"),
        ("agentshield call http://localhost:1/ --as planner", "https"),
        ("printf '%s' '-----BEGIN CERTIFICATE-----' | agentshield bundle set other.test --format pem", ""),
        ("printf '{' | agentshield bundle set other.test --format spiffe", ""),
        ("head -c 5000000 /dev/zero | agentshield bundle set other.test --format spiffe", ""),
    ],
)
def test_bad_input_is_a_clear_error(running_desk, line, said):
    """Whoever mistypes must learn what was wrong; whoever attacks must learn nothing and change nothing."""
    before = running_desk.type("agentshield entry count -o name").out
    refused(running_desk.type(line.replace("LONG", LONG)), 2, said)
    assert running_desk.type("agentshield entry count -o name").out == before


@pytest.fixture(scope="module")
def running_desk(module_desk):
    module_desk.up()
    return module_desk


def test_an_unknown_key_of_a_policy_file_names_the_nearest_and_changes_nothing(running_desk):
    """A misspelt condition that is ignored is a rule without its condition."""
    rules = running_desk.state / "policy" / "rules.yaml"
    good = rules.read_text()
    rules.write_text("trust_domain: example.test\nrules:\n  - {who: a, may_call: b, actions: [c], max_dept: 1}\n")
    result = running_desk.type("agentshield policy apply")
    rules.write_text(good)
    refused(result, 2, "max_depth")
    assert running_desk.type("agentshield policy diff").code == 0  # the one before is what holds


def test_an_unknown_member_of_an_admin_request_is_refused_by_name(running_desk):
    """An older server must not ignore what a newer client asks for: it may be a restriction."""
    body = '{"name": "x", "grups": ["admins"]}'
    answer = running_desk.type(
        f"curl -s --unix-socket {running_desk.state}/run/admin.sock http://x/v1/agents -d '{body}'"
        if os.path.exists("/usr/bin/curl")  # noqa: PTH110
        else _ask_without_curl(running_desk, body)
    )
    assert "'groups'" in answer.out
    assert running_desk.type("agentshield agent show x").code == 6


def _ask_without_curl(desk, body):
    program = (
        "import http.client, socket, sys; c = http.client.HTTPConnection('x'); "
        "c.sock = socket.socket(socket.AF_UNIX); c.sock.connect(sys.argv[1]); "
        "c.request('POST', '/v1/agents', sys.argv[2]); print(c.getresponse().read().decode())"
    )
    return f"""python -c "{program}" {desk.state}/run/admin.sock '{body}'"""


def test_another_user_of_the_machine_is_refused(running_desk):
    """The socket's directory keeps others out; if it were opened, the kernel's word on who asks still does."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    run = running_desk.state / "run"
    for path in (running_desk.home, running_desk.state, run):
        path.chmod(0o755)
    (run / "admin.sock").chmod(0o777)
    program = (
        "import os, sys; from pathlib import Path; from datetime import timedelta; "
        "from agentshield.app.admin_client import AdminClient; from agentshield.app.failure import CommandError\n"
        "client = AdminClient(Path(sys.argv[1]), timeout=timedelta(seconds=5))\n"
        "os.setuid(12345)\n"
        "try: client.get('/v1/agents')\n"
        "except CommandError as error: print(error.failure.code)"
    )
    answer = running_desk.type(f'python -c "{program}" {run}/admin.sock')
    for path in (running_desk.state, run):
        path.chmod(0o700)
    assert answer.out == "not_the_owner\n", answer.err


@pytest.mark.parametrize("csr", [b"\x30" * 1_000_000, b"\x30\x82", b""], ids=["1 MB", "truncated", "empty"])
async def test_a_bad_csr_is_refused_and_costs_neither_server_nor_token(running_desk, csr):
    """A megabyte from anybody on the network must not reach the parser, nor spend what an operator handed out."""
    status = running_desk.type("agentshield status -o json").data
    made = running_desk.type("agentshield join-token create -o json").data
    domain = TrustDomain(status["trust_domain"])
    document = running_desk.type("agentshield bundle show --format spiffe").out
    context = authority_context(domain)
    context.update(None, BundleSet.of(TrustBundle.from_json(domain, document.encode())))
    host, _, port = status["authority"].rpartition(":")
    async with AuthorityClient(host, int(port), trust_domain=domain, context=context) as client:
        with pytest.raises(AgentShieldError) as refusal:
            await client.attest_agent("join_token", made["token"].encode(), csr)
    assert len(str(refusal.value)) < 1000
    assert made["id"] in running_desk.type("agentshield join-token list -o name").out.split()
    assert running_desk.type("agentshield status").code == 0


def test_a_second_up_on_the_same_state_names_the_first(running_desk):
    """Two authorities on one state would sign two histories; the error says which process to stop."""
    pid = running_desk.type("agentshield status -o json").data["pid"]
    refused(running_desk.type("agentshield up"), 6, f"process {pid}", "agentshield down")
    refused(running_desk.type("agentshield up --detach"), 6, f"process {pid}")
    assert running_desk.type("agentshield status").code == 0


def test_another_trust_domain_on_the_same_state_is_refused(running_desk):
    """The keys in there are one domain's; another name on them would be a forgery by accident."""
    refused(running_desk.type("agentshield up --trust-domain other.test"), 2, "example.test")


def test_a_killed_server_loses_nothing_it_answered_for(desk):
    """SIGKILL in the middle of writes: every agent whose creation was answered is there, and the log verifies."""
    up = desk.up()
    loop = desk.start("sh -c 'i=0; while agentshield agent create a$i -q -o name; do i=$((i+1)); done'")
    desk.wait_for(loop, "a3\n")
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    loop.wait(timeout=20)
    answered = {line for line in desk.log_of(loop).splitlines() if line.startswith("a") and line[1:].isdigit()}
    desk.up()
    assert answered <= set(desk.type("agentshield agent list -o name").out.split())
    assert desk.type("agentshield audit verify").code == 0
    created = desk.type("agentshield audit search --event agent.created --limit 10000 -o json").data["items"]
    assert len(created) >= len(answered)


def test_a_full_disk_is_an_error_and_what_was_there_stays(desk):
    """No room: nothing is promised that cannot be kept, and nothing that was promised is lost."""
    up = desk.up()
    assert desk.type("agentshield agent create before").code == 0
    _no_more_bytes(up.pid, desk)
    failed = desk.type("agentshield agent create after")
    refused(failed, 5)
    assert desk.type("agentshield agent list -o name").out == "before\n"
    up.kill()
    up.wait()
    desk.up()
    assert desk.type("agentshield agent list -o name").out == "before\n"
    assert desk.type("agentshield audit verify").code == 0
    assert desk.type("agentshield agent create after").code == 0


def _no_more_bytes(pid, desk):
    """Let no file of the process grow: to it, a disk without room."""
    largest = max(path.stat().st_size for path in desk.state.rglob("*") if path.is_file())
    smallest = min(largest, 4096)
    if not hasattr(resource, "prlimit"):
        pytest.skip("this platform cannot take room away from a running process")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (smallest, resource.RLIM_INFINITY))


def test_ctrl_c_stops_in_order_and_a_second_one_forces(desk):
    """Whoever presses Ctrl-C twice means it."""
    up = desk.up()
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=20) == 0
    assert "stopped" in desk.log_of(up)
    assert not (desk.state / "run" / "admin.sock").exists()
    stubborn = desk.up()
    began = time.monotonic()
    stubborn.send_signal(signal.SIGTERM)
    stubborn.send_signal(signal.SIGTERM)
    stubborn.wait(timeout=20)
    assert time.monotonic() - began < 10
    assert subprocess.run(["ps", "-p", str(stubborn.pid)], capture_output=True, check=False).returncode != 0
