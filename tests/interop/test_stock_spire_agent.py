"""A stock spire-agent 1.15 under our authority, and a go-spiffe workload under it: only the authority is ours."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.model import RegistrationEntry, all_nodes_id
from agentshield.authority.selectors import Selector
from agentshield.authority.server import NodeServer
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRUST_DOMAIN = TrustDomain("example.test")
PATIENCE = 60.0

CONFIGURATION = """
agent {{
    data_dir = "{directory}/data"
    log_level = "DEBUG"
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{directory}/agent.sock"
    trust_bundle_path = "{directory}/bundle.pem"
    trust_domain = "example.test"
    join_token = "{token}"
}}
plugins {{
    NodeAttestor "join_token" {{ plugin_data {{}} }}
    KeyManager "memory" {{ plugin_data {{}} }}
    WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"""


class RunningAgent:
    """A spire-agent's process, and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, socket: Path) -> None:
        self.process = process
        self.log = log
        self.socket = socket

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()

    async def logged(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in self.log.read_text():
                assert self.process.returncode is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.2)


@pytest.fixture
def settings() -> AuthoritySettings:
    return AuthoritySettings(trust_domain=TRUST_DOMAIN)


@pytest.fixture
async def authority(settings: AuthoritySettings, audit_log) -> AsyncIterator[AuthorityService]:
    async with AuthorityService(settings, memory_store(), MemoryKeyStore(), audit_log) as service:
        yield service


@pytest.fixture
async def server(authority: AuthorityService) -> AsyncIterator[NodeServer]:
    async with NodeServer(authority, port=0) as running:
        yield running


@pytest.fixture
def run_agent(spire_agent: Path, authority: AuthorityService, server: NodeServer, tmp_path_factory) -> Callable:
    """Start a spire-agent with a new join token, and stop it on leaving."""

    @asynccontextmanager
    async def run() -> AsyncIterator[RunningAgent]:
        directory = tmp_path_factory.mktemp("a")
        (directory / "bundle.pem").write_bytes(authority.bundle().x509_pem())
        token = await authority.create_join_token()
        configuration = directory / "agent.conf"
        configuration.write_text(CONFIGURATION.format(directory=directory, port=server.port, token=token.value))
        log = directory / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                spire_agent, "run", "-config", configuration, stdout=output, stderr=output
            )
        agent = RunningAgent(process, log, directory / "agent.sock")
        try:
            await agent.logged("Starting agent APIs")
            yield agent
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    return run


async def who_am_i(whoami: Path, socket: Path) -> dict[str, str]:
    """Run the go-spiffe workload against a Workload API, and return what it found out."""
    process = await asyncio.create_subprocess_exec(
        whoami,
        env={"SPIFFE_ENDPOINT_SOCKET": f"unix://{socket}", "PATH": os.environ.get("PATH", "")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found: dict[str, str] = json.loads(out)
    return found


async def renewed(authority: AuthorityService, before: str) -> None:
    """Wait until the only node calls with another SVID than that one."""
    async with asyncio.timeout(PATIENCE):
        while (await authority.list_nodes())[0].serial == before:
            await asyncio.sleep(0.2)


def entry(path: str, *selectors: str, **fields: object) -> RegistrationEntry:
    values: dict[str, object] = {
        "spiffe_id": SpiffeId.of(TRUST_DOMAIN, path),
        "parent_id": all_nodes_id(TRUST_DOMAIN),
        "selectors": tuple(map(Selector.parse, selectors or (f"unix:uid:{os.getuid()}",))),
    }
    return RegistrationEntry(**(values | fields))  # type: ignore[arg-type]


async def test_stock_agent_attests_and_serves_svids(authority, run_agent, whoami):
    """Attestation, entries, bundles, X.509 and JWT: a team with spire-agents in place keeps them all."""
    await authority.create_entry(entry("/agents/billing", hint="main"))
    async with run_agent() as agent:
        found = await who_am_i(whoami, agent.socket)
    expected = "spiffe://example.test/agents/billing"
    assert found == {"x509": expected, "jwt": expected, "api": expected, "hint": "main"}
    (node,) = await authority.list_nodes()
    assert node.agent_version.startswith("1.15")


async def test_stock_agent_sees_an_entry_made_later(authority, run_agent, whoami):
    """An entry made while the agent runs must arrive by its own polling, and be the only one the workload gets."""
    async with run_agent() as agent:
        await authority.create_entry(entry("/agents/other", f"unix:uid:{os.getuid() + 1}"))
        await authority.create_entry(entry("/agents/late"))
        found = await who_am_i(whoami, agent.socket)
    assert found["x509"] == "spiffe://example.test/agents/late"


async def test_stock_agent_takes_many_entries_in_pages(authority, run_agent, whoami):
    """Beyond 500 entries SPIRE's protocol goes by revisions and pages, and its CSRs by batches."""
    for number in range(600):
        await authority.create_entry(entry(f"/w/{number}", "unix:uid:4000000"))
    await authority.create_entry(entry("/agents/needle"))
    async with run_agent() as agent:
        found = await who_am_i(whoami, agent.socket)
    assert found["x509"] == "spiffe://example.test/agents/needle"


async def test_banned_stock_agent_gives_up_its_svid(authority, run_agent):
    """A ban carries SPIRE's own reason, so a stock agent deletes its SVID and stops, instead of asking for ever."""
    async with run_agent() as agent:
        (node,) = await authority.list_nodes()
        await authority.ban_node(node.spiffe_id)
        await agent.ended()
        assert agent.process.returncode != 0
        assert "banned" in agent.log.read_text().lower()


class TestShortLives:
    """An SVID of a node that lives for half a minute, to see it renewed."""

    @pytest.fixture
    def settings(self) -> AuthoritySettings:
        return AuthoritySettings(trust_domain=TRUST_DOMAIN, node_svid_ttl=timedelta(seconds=20))

    async def test_stock_agent_renews_and_goes_on(self, authority, run_agent, whoami):
        """A node attested by join token renews with what it has; afterwards its workloads are served as before."""
        async with run_agent() as agent:
            (before,) = await authority.list_nodes()
            await renewed(authority, before.serial)
            await authority.create_entry(entry("/agents/after"))
            found = await who_am_i(whoami, agent.socket)
        assert found["x509"] == "spiffe://example.test/agents/after"
