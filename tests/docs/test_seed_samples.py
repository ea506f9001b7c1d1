"""docs/explain/seed-samples.md: the corrected samples run, as written, and what was printed wrongly is not in them."""

import ast
import asyncio
import json
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from agentshield.errors import AgentShieldError
from agentshield.identity.errors import PeerNotAllowedError, WrongAudienceError
from agentshield.identity.verify import verify_jwt_svid
from agentshield.sdk.shield import Shield
from agentshield.testing.trust_domain import FakeTrustDomain
from agentshield.testing.workload_api import FakeWorkloadApi

PAGE = (Path(__file__).parents[2] / "docs/explain/seed-samples.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
PYTHON = {body.splitlines()[0].removeprefix("# "): body for kind, body in BLOCKS if kind == "python"}


@pytest.fixture
def domain():
    return FakeTrustDomain("nextriad.ai")


@pytest.fixture
async def agent_a(domain):
    async with FakeWorkloadApi(domain, "/agent-a") as api:
        yield api


@pytest.fixture
async def agent_b(domain):
    async with FakeWorkloadApi(domain, "/agent-b") as api:
        yield api


def sample(name):
    """Execute a sample as a module and return its names."""
    names = {"__name__": name.removesuffix(".py")}
    exec(compile(PYTHON[name], name, "exec"), names)
    return names


def test_every_python_sample_is_named_and_there():
    """A sample that is not run is a sample that rots."""
    assert set(PYTHON) == {"agent_a.py", "agent_b.py", "entra_assertion.py", "verify_token.py", "client_assertion.py"}


def test_corrected_samples_contain_none_of_the_slips():
    """Whoever copies from this page must not copy the article's mistakes."""
    for name, body in PYTHON.items():
        tree = ast.parse(body)
        words = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        words |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        slips = {"CLIENT_AUTH", "startswith", "getpeercert", "client_secret", "cert_chain_path", "private_key_path"}
        assert not words & slips, name
        assert "client_secret" not in body, name


async def test_agent_a_calls_agent_b(agent_a, agent_b, tmp_path):
    """The article's two agents, in their corrected form, must do what the article promises."""
    await agent_b.publish(snapshot_allowing("agent-a", "agent-b", "task:create"))
    for name in ("agent_a.py", "agent_b.py"):
        (tmp_path / name).write_text(PYTHON[name])
    port = free_port()
    server = await start_server(tmp_path, port, agent_b)
    try:
        called = await run_python(tmp_path / "agent_a.py", agent_a, AGENT_B=f"https://localhost:{port}")
        assert called.returncode == 0, called.stderr
        assert ast.literal_eval(called.stdout) == {"accepted": "analyze", "caller": "spiffe://nextriad.ai/agent-a"}
    finally:
        server.terminate()
        await server.wait()


async def test_another_agent_of_the_domain_is_refused(domain, agent_b, tmp_path):
    """The article's `else: READ_ONLY` must not have survived: whom no rule names may do nothing."""
    await agent_b.publish(snapshot_allowing("agent-a", "agent-b", "task:create", also="agent-c"))
    for name in ("agent_a.py", "agent_b.py"):
        (tmp_path / name).write_text(PYTHON[name].replace("print(response.json())", "print(response.status_code)"))
    port = free_port()
    server = await start_server(tmp_path, port, agent_b)
    try:
        async with FakeWorkloadApi(domain, "/agent-c") as agent_c:
            called = await run_python(tmp_path / "agent_a.py", agent_c, AGENT_B=f"https://localhost:{port}")
        assert called.stdout.strip() == "403", called.stdout + called.stderr
    finally:
        server.terminate()
        await server.wait()


async def test_the_entra_assertion_is_a_private_file_for_one_audience(agent_a, domain, tmp_path, monkeypatch):
    """A token in a file that others can read, or that others accept, is a shared secret again."""
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", f"unix://{agent_a.socket}")
    target = tmp_path / "assertion"
    for _ in range(2):  # writing again replaces
        await sample("entra_assertion.py")["write_assertion"](target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["assertion"]
    who = verify_jwt_svid(
        target.read_text(), domain.bundles(), audience="api://AzureADTokenExchange", at=domain.clock()
    )
    assert str(who.spiffe_id) == "spiffe://nextriad.ai/agent-a"


async def test_the_token_of_agent_a_is_verified_and_no_other(agent_b, domain):
    """Whole names, right audience, own domain's keys: each of them is somebody's access."""
    verify = sample("verify_token.py")["verify_agent_token"]
    me = "spiffe://nextriad.ai/agent-b"
    async with Shield.from_socket(agent_b.socket) as shield:
        who = await verify(shield, domain.issue_jwt_svid("/agent-a", [me]).token)
        assert str(who.spiffe_id) == "spiffe://nextriad.ai/agent-a"
        with pytest.raises(PeerNotAllowedError):
            await verify(shield, domain.issue_jwt_svid("/agent-a-evil", [me]).token)
        with pytest.raises(WrongAudienceError):
            await verify(shield, domain.issue_jwt_svid("/agent-a", ["spiffe://nextriad.ai/agent-c"]).token)
        with pytest.raises(AgentShieldError):
            await verify(shield, FakeTrustDomain("nextriad.ai").issue_jwt_svid("/agent-a", [me]).token)


async def test_the_client_assertion_is_for_the_issuer_alone(agent_a, domain):
    """An assertion with a wider audience could be replayed by the server that receives it."""
    async with Shield.from_socket(agent_a.socket) as shield:
        form = await sample("client_assertion.py")["token_request"](shield, "https://auth.nextriad.ai", "finance.read")
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
    who = verify_jwt_svid(
        form["client_assertion"], domain.bundles(), audience="https://auth.nextriad.ai", at=domain.clock()
    )
    assert who.claims["aud"] in ("https://auth.nextriad.ai", ["https://auth.nextriad.ai"])
    assert "client_secret" not in form


def test_the_card_has_the_members_of_a2a_and_none_of_the_article_s():
    """A card in a shape of one's own is read by nobody; its security section then protects nobody."""
    (card,) = [json.loads(body) for kind, body in BLOCKS if kind == "json"]
    required = {"name", "description", "version", "supportedInterfaces", "capabilities", "skills"}
    assert required | {"defaultInputModes", "defaultOutputModes"} <= set(card)
    assert not {"agentId", "authentication", "endpoints"} & set(card)
    for requirement in card["securityRequirements"]:
        assert set(requirement["schemes"]) <= set(card["securitySchemes"])
    for interface in card["supportedInterfaces"]:
        assert {"url", "protocolBinding", "protocolVersion"} <= set(interface)


def commands():
    lines = "".join(body for kind, body in BLOCKS if kind == "console").replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ ")) for line in lines]


@pytest.mark.parametrize("command", commands(), ids=lambda command: "-".join(command[1:3]))
def test_every_command_on_the_page_is_one_we_have(command):
    """A flag that does not exist sends the reader away at the first line."""
    from agentshield.app.main import root

    program, *arguments = command
    assert program == "agentshield"
    context = root.make_context(program, arguments, resilient_parsing=True)
    name, verb, arguments = root.resolve_command(context, arguments)
    context = verb.make_context(name, arguments, parent=context, resilient_parsing=isinstance(verb, click.Group))
    if isinstance(verb, click.Group):
        name, verb, arguments = verb.resolve_command(context, arguments[:1] + command[3:])
        verb.make_context(name, arguments, parent=context)


def test_the_article_s_own_command_is_taken_as_printed():
    """`-ttl` and no parent: the project's first readers will type exactly this."""
    from agentshield.app.cli.entry import create

    printed = next(body for kind, body in BLOCKS if kind == "text" and body.startswith("spire-server entry create"))
    _, _, _, *arguments = shlex.split(printed.replace("\\\n", " "))
    context = create.make_context("create", arguments)
    assert context.params["spiffe_id"] == "spiffe://nextriad.ai/agent-a"
    assert context.params["selectors"] == ("k8s:ns:production", "k8s:pod-label:app:agent-a")
    assert context.params["ttl"].total_seconds() == 3600


def snapshot_allowing(who, may_call, action, *, also=None):
    """Agents of nextriad.ai, and one rule."""
    from datetime import UTC, datetime, timedelta

    from agentshield.identity.spiffe_id import SpiffeId
    from agentshield.policy.bundle import PolicyBundle
    from agentshield.sdk.pdp import AgentFacts, EnforcementSnapshot

    rules = {
        "rules": [
            {
                "who": f"spiffe://nextriad.ai/{who}",
                "may_call": f"spiffe://nextriad.ai/{may_call}",
                "actions": [action],
            }
        ]
    }
    names = [who, may_call, *([also] if also else [])]
    return EnforcementSnapshot(
        version=1,
        issued_at=datetime.now(UTC),
        lease=timedelta(minutes=5),
        bundle=PolicyBundle.from_files({"rules.yaml": json.dumps(rules)}, trust_domain="nextriad.ai"),
        agents=tuple(AgentFacts(spiffe_id=SpiffeId.parse(f"spiffe://nextriad.ai/{name}"), name=name) for name in names),
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(api, **more):
    return {**os.environ, "SPIFFE_ENDPOINT_SOCKET": f"unix://{api.socket}", **more}


async def run_python(program, api, **more):
    """Run a program beside the event loop that serves its Workload API."""
    run = subprocess.run
    return await asyncio.to_thread(
        run, [sys.executable, program], env=environment(api, **more), capture_output=True, text=True, timeout=30
    )


async def start_server(directory, port, api):
    """Serve agent_b.py by stock uvicorn, as `agentshield run` tells it to."""
    protocol = "agentshield.uvicorn:ShieldProtocol"
    command = [sys.executable, "-m", "uvicorn", "agent_b:app", "--http", protocol, "--port", str(port)]
    server = await asyncio.create_subprocess_exec(*command, cwd=directory, env=environment(api))
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if server.returncode is not None:
                pytest.fail(f"agent_b.py ended with {server.returncode}")
            await asyncio.sleep(0.05)
        else:
            writer.close()
            await writer.wait_closed()
            return server
    server.terminate()
    await server.wait()
    pytest.fail("agent_b.py never listened")
