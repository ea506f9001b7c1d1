"""A stock go-spiffe workload under our node agent and our authority: no program of SPIRE's anywhere."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
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
from agentshield.node.authority_link import AuthorityLink
from agentshield.node.service import NodeService
from agentshield.node.settings import NodeSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRUST_DOMAIN = TrustDomain("example.test")


@pytest.fixture
async def authority(audit_log) -> AsyncIterator[AuthorityService]:
    settings = AuthoritySettings(trust_domain=TRUST_DOMAIN)
    async with AuthorityService(settings, memory_store(), MemoryKeyStore(), audit_log) as service:
        yield service


@pytest.fixture
async def node_socket(authority: AuthorityService, tmp_path: Path) -> AsyncIterator[Path]:
    """The socket of a node agent of ours that has attested by join token."""
    async with NodeServer(authority, port=0) as server:
        token = await authority.create_join_token()
        settings = NodeSettings(
            trust_domain=TRUST_DOMAIN,
            socket_path=tmp_path / "node.sock",
            data_dir=tmp_path / "node",
            authority_port=server.port,
            join_token=token.value,
            trust_bundle=authority.bundle(),
        )
        node = NodeService(settings, AuthorityLink(settings))
        running = asyncio.create_task(node.run())
        async with asyncio.timeout(30):
            await node.ready.wait()
        yield settings.socket_path
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_stock_go_spiffe_gets_its_identity(authority, node_socket, whoami):
    """A Go program that knows SPIFFE only gets its X.509 and JWT identity from us, and verifies both."""
    await authority.create_entry(
        RegistrationEntry(
            spiffe_id=SpiffeId.of(TRUST_DOMAIN, "/agents/gopher"),
            parent_id=all_nodes_id(TRUST_DOMAIN),
            selectors=(Selector("unix", f"uid:{os.getuid()}"),),
        )
    )
    process = await asyncio.create_subprocess_exec(
        whoami,
        env={"SPIFFE_ENDPOINT_SOCKET": f"unix://{node_socket}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found = json.loads(out)
    expected = "spiffe://example.test/agents/gopher"
    assert (found["x509"], found["jwt"], found["api"]) == (expected, expected, expected)
