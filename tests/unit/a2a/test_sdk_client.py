"""A stock client of a2a-sdk with our auth: every scheme of a requirement, and nothing to another origin."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "vectors"))  # test directories are no packages

from a2a.types import a2a_pb2
from a2a_client_world import MTLS, A2AClientWorld
from google.protobuf.json_format import ParseDict

from agentshield.a2a.sdk_client import PlannedAuth, card_verifier, sdk_client
from agentshield.identity.agent_card.errors import CardTamperedError, UnsignedCardError
from agentshield.sdk.a2a.skill import skill_extension, skill_metadata
from agentshield.sdk.a2a_client.credentials import ApiKey
from agentshield.sdk.a2a_client.errors import ForeignOriginError, NoUsableRequirementError
from agentshield.sdk.a2a_client.link import AgentLink, LinkSettings
from agentshield.sdk.a2a_client.serials import SeenSerials

KEY = {"apiKeySecurityScheme": {"location": "header", "name": "X-Key", "description": "A key"}}
TOKEN = {"apiKeySecurityScheme": {"location": "cookie", "name": "token", "description": "Another"}}
SECRETS = {"key": ApiKey(value="k-1"), "cookie": ApiKey(value="c-1")}


@pytest.fixture(params=["JSONRPC", "HTTP+JSON"])
async def world(request):
    async with A2AClientWorld() as world:
        schemes = {**MTLS, "key": KEY, "cookie": TOKEN}
        asks = [{"schemes": {name: {"list": ["any"]} for name in ("mtls", "key")}}]
        members = world.members(securitySchemes=schemes, securityRequirements=asks)
        members["supportedInterfaces"].sort(key=lambda each: each["protocolBinding"] != request.param)
        members["skills"][1]["securityRequirements"] = [{"schemes": {"cookie": {"list": ["any"]}}}]
        world.publish(members, extensions=[skill_extension(is_required=True)])
        yield world


def request_for(text, skill=None):
    message = {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}
    if skill:
        message["metadata"] = skill_metadata(skill)
    return ParseDict({"message": message}, a2a_pb2.SendMessageRequest())


async def said(client, request):
    return [each async for each in client.send_message(request)]


async def test_all_schemes_of_a_requirement_go_along(world):
    """The SDK's interceptor sends the first of them only, and the agent refuses."""
    async with sdk_client(world.me, world.url, secrets=SECRETS) as client:
        events = await said(client, request_for("echo hello"))
    assert events
    _, _, headers = world.seen[-1]
    assert headers["x-key"] == "k-1"
    assert "cookie" not in headers
    assert "urn:agentshield:a2a:skill:1" in headers["a2a-extensions"]


async def test_what_a_skill_asks_for_goes_along_with_it(world):
    """On top of what the agent asks for, and for this skill alone; the note to ourselves stays with us."""
    async with sdk_client(world.me, world.url, secrets=SECRETS) as client:
        await said(client, request_for("echo hello", "book"))
        assert world.seen[-1][2]["cookie"] == "token=c-1"
        await said(client, request_for("echo hello", "echo"))
    assert "cookie" not in world.seen[-1][2]
    assert not any("planned" in name for _, _, headers in world.seen for name in headers)


async def test_half_a_requirement_is_not_sent(world):
    """What we lack is said before the agent hears of us."""
    async with sdk_client(world.me, world.url) as client:
        with pytest.raises(NoUsableRequirementError):
            await said(client, request_for("echo hello"))
    assert len(world.seen) == 1


async def test_another_origin_gets_nothing(world):
    """Whoever uses the client for another address, or is led there, sends no credential."""
    link = AgentLink(world.me, world.url, LinkSettings(secrets=SECRETS), seen=SeenSerials())
    await link.open()
    expect = world.domain.agent_id("analyst")
    async with world.me.client(expect=expect, flavor="httpx", auth=PlannedAuth(link)) as http:
        with pytest.raises(ForeignOriginError):
            await http.get(world.url.replace("127.0.0.1", "localhost"))
    await link.aclose()
    assert len(world.seen) == 1


async def test_the_verifier_for_the_sdks_resolver_is_strict(world):
    """A card that was changed, or is not signed, is not believed there either."""
    verify = card_verifier(world.me)
    written = json.loads(world.card)
    verify(ParseDict(written, a2a_pb2.AgentCard()))
    with pytest.raises(CardTamperedError):
        verify(ParseDict({**written, "securityRequirements": []}, a2a_pb2.AgentCard()))
    with pytest.raises(UnsignedCardError):
        verify(ParseDict({**written, "signatures": []}, a2a_pb2.AgentCard()))
