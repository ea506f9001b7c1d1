"""Whoever registers a notification endpoint, or runs one, tries to have us post inside our network."""

import asyncio
import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from ciba_world import NOTIFICATION_TOKEN, CibaWorld
from exchange_world import AS

from agentshield.identity.spiffe_id import TrustDomain
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.settings import OAuthSettings
from agentshield.policy.approval import ApprovalStatus
from agentshield.sdk.egress import ForbiddenAddressError

BODY = {"auth_req_id": "r-1"}
SETTINGS = OAuthSettings(issuer=AS, trust_domain=TrustDomain("example.test"))


@pytest.fixture
async def inside():
    """A service on loopback; `knocks` counts who came."""
    knocks: list[None] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append(None)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], knocks


def leading_to(*addresses: str):
    async def resolve(host: str, port: int) -> tuple[str, ...]:
        return addresses

    return resolve


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("::1",), ("10.0.0.5",), ("169.254.169.254",), ("8.8.8.8", "127.0.0.1")]
)
async def test_a_name_that_leads_inside_is_not_told(inside, addresses):
    """A bearer token and an id must not go to whatever listens on our own machine."""
    port, knocks = inside
    fetch = IssuerFetch(SETTINGS, resolve=leading_to(*addresses))
    with pytest.raises(ForbiddenAddressError):
        await fetch.post(f"https://agent.example.test:{port}/told", BODY, bearer=NOTIFICATION_TOKEN)
    assert knocks == []


@pytest.mark.parametrize(
    "url",
    [
        "http://agent.test/told",
        "https://127.1/told",
        "https://user@agent.test/",
        "https://agent.test/#x",
        "file:///etc",
    ],
)
async def test_no_such_endpoint_is_registered(tmp_path, url):
    """What we would not post to is refused when it is named, not when a human has answered."""
    world = await CibaWorld(keys_directory=tmp_path).open()
    client = world.client(ClientAuthMethod.SPIFFE_JWT, notification_endpoint=url)
    with pytest.raises(ForbiddenAddressError):
        await world.registrations.clients.create(client, by="ann")


async def test_an_answer_stands_though_nobody_could_be_told(tmp_path, caplog):
    """A client's dead or hostile endpoint must neither undo a human's answer nor get a secret into our log."""
    world = await CibaWorld(keys_directory=tmp_path).open()
    world.notifications._post = IssuerFetch(SETTINGS, resolve=leading_to("127.0.0.1"))
    await world.register_for_ping()
    answer = await world.question(client_notification_token=NOTIFICATION_TOKEN)
    with caplog.at_level(logging.DEBUG):
        await world.say(answer)
    assert (await world.asked(answer)).status(world.clock()) is ApprovalStatus.APPROVED
    assert "was not notified" in caplog.text
    assert NOTIFICATION_TOKEN not in caplog.text
    assert answer.auth_req_id not in caplog.text
