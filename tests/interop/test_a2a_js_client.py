"""@a2a-js/sdk (npm), unchanged, as client of an agent behind the gateway: card, send, stream, list, extended card."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from gateway_world import GatewayWorld

pytestmark = [pytest.mark.slow]


async def told(node_program, world, name, binding):
    source = world.shields[name].source
    roots = source.bundle_for(world.domain.trust_domain).x509_authorities
    order = {
        "url": f"{world.base}/",
        "binding": binding,
        "cert": source.svid.chain_pem().decode(),
        "key": source.svid.key_pem().decode(),
        "ca": "".join(each.certificate.public_bytes(Encoding.PEM).decode() for each in roots),
    }
    process = await node_program("a2a_client.mjs", order)
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    return json.loads(out)


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_the_stock_client_works_through_the_gateway(node_program, binding):
    """It knows nothing of us but our certificate."""
    async with GatewayWorld() as world:
        answer = await told(node_program, world, "planner", binding)
    assert "error" not in answer, answer
    assert "hello" in json.dumps(answer["sent"])
    assert "again" in json.dumps(answer["events"])
    assert len(answer["events"]) > 1
    assert answer["listed"]["totalSize"] == 2
    assert answer["card"]["name"] == "analyst"


async def test_the_stock_client_is_refused_where_policy_says_no(node_program):
    """And told no more than that."""
    async with GatewayWorld() as world:
        world.rules = []
        await world.publish()
        answer = await told(node_program, world, "planner", "JSONRPC")
    assert "error" in answer
    assert "sent" not in answer
