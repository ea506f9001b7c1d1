"""A card decides where callers send their credentials: whoever bends it, or its address, must get none of them.

Every test counts what the attacker's listener saw.
"""

import contextlib
import json

import pytest
from a2a_client_world import A2AClientWorld, answer, free_port, signer_of

from agentshield.errors import AgentShieldError
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.errors import CardOutOfPlaceError, CardTamperedError, UnsignedCardError
from agentshield.identity.agent_card.jose import CardSigner
from agentshield.identity.agent_card.signature import EnrolledKey, EnrolledKeys, sign_card
from agentshield.identity.errors import PeerNotAllowedError
from agentshield.identity.keys import generate_private_key
from agentshield.sdk.a2a.errors import InvalidAgentAnswerError
from agentshield.sdk.a2a_client.credentials import BearerToken, PublicTls
from agentshield.sdk.a2a_client.errors import (
    CardPeerError,
    CardRedirectedError,
    CardRolledBackError,
    CardUnavailableError,
)
from agentshield.sdk.shield import Shield
from agentshield.testing.server import serving
from agentshield.testing.workload_api import FakeWorkloadApi

BEARER = {
    "securitySchemes": {"key": {"httpAuthSecurityScheme": {"scheme": "bearer", "description": "A token"}}},
    "securityRequirements": [{"schemes": {"key": {"list": ["any"]}}}],
}
SECRET = {"key": BearerToken(value="very-secret")}


@pytest.fixture
async def world():
    async with A2AClientWorld() as world:
        yield world


class Listener:
    """Another workload of the trust domain, with an SVID of its own, that writes down whatever it is sent."""

    def __init__(self):
        self.seen = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.seen.append((scope["path"], {name.decode(): value.decode() for name, value in scope["headers"]}))
            await answer(send, 200, {"content-type": "application/json"}, b"{}")


@pytest.fixture
async def mallory(world):
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(FakeWorkloadApi(world.domain, "/agents/mallory"))
        shield = await stack.enter_async_context(Shield.from_socket(api.endpoint, clock=world.domain.clock, wait=5))
        listener = Listener()
        listener.shield = shield
        listener.url = await stack.enter_async_context(serving(listener, shield.server_tls()))
        yield listener


def leading_to(world, url):
    """A card that asks for the bearer token, and has its interface at `url`."""
    interface = {"url": f"{url}/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    return world.members(supportedInterfaces=[interface], **BEARER)


async def test_a_card_that_points_to_a_foreign_origin(world, mallory):
    """Signed by the agent, with an address where another answers: that one is not who the card is about."""
    world.publish(leading_to(world, mallory.url))
    async with world.me.a2a(world.url, secrets=SECRET) as agent:
        with pytest.raises(PeerNotAllowedError):
            await agent.send("hello")
    assert mallory.seen == []


async def test_a_card_by_a_key_that_does_not_speak_for_the_origin(world, mallory):
    """An enrolled key speaks for its own origins only."""
    key = generate_private_key()
    keys = EnrolledKeys((EnrolledKey(kid="k", public_key=key.public_key(), origins=frozenset({world.url})),))
    card = AgentCard.of({**leading_to(world, mallory.url), "capabilities": {"streaming": True}})
    world.card = sign_card(card, CardSigner(kid="k", key=key))
    with pytest.raises(AgentShieldError):
        async with world.me.a2a(world.url, keys=keys, secrets=SECRET, expect=mallory.shield.spiffe_id):
            pass
    with pytest.raises(CardOutOfPlaceError):
        async with world.me.a2a(world.url, keys=EnrolledKeys((_taking(keys),)), secrets=SECRET):
            pass
    assert mallory.seen == []


def _taking(keys):
    from dataclasses import replace

    return replace(keys.keys[0], takes_sdk_form=True)


async def test_an_agent_that_redirects_calls(world, mallory):
    """A redirect is not followed: the credential was for the one who redirects."""
    world.publish(world.members(**BEARER))
    world.redirect = f"{mallory.url}/"
    async with world.me.a2a(world.url, secrets=SECRET) as agent:
        with pytest.raises(InvalidAgentAnswerError):
            await agent.send("hello")
    assert mallory.seen == []


async def test_a_card_that_is_somewhere_else(world, mallory):
    """Whoever can have the card's address redirect would choose whose card it is."""
    front = free_port()

    async def sends_on(scope, receive, send):
        if scope["type"] == "http":
            await answer(send, 302, {"location": f"{mallory.url}/card.json"})

    async with serving(sends_on, world.pair.analyst.server_tls(), port=front) as url:
        with pytest.raises(CardRedirectedError):
            async with world.me.a2a(url, secrets=SECRET):
                pass
    assert mallory.seen == []


async def test_a_card_that_sends_in_a_circle(world):
    """Within one origin some redirects are followed, and not for ever."""

    async def circle(scope, receive, send):
        if scope["type"] == "http":
            await answer(send, 302, {"location": "/again"})

    async with serving(circle, world.pair.analyst.server_tls()) as url:
        with pytest.raises(CardRedirectedError):
            async with world.me.a2a(url):
                pass


async def test_a_second_signature(world, mallory):
    """The agent's own signature, and mallory's beside it over a card that was changed: a tampered card."""
    written = json.loads(world.card)
    forged = AgentCard.of({**leading_to(world, mallory.url), "capabilities": written["capabilities"]})
    by_mallory = json.loads(sign_card(forged, signer_of(mallory.shield.source.svid)))
    by_mallory["signatures"] += written["signatures"]
    world.card = json.dumps(by_mallory).encode()
    with pytest.raises(CardTamperedError):
        async with world.me.a2a(world.url, secrets=SECRET):
            pass
    assert mallory.seen == []


async def test_a_rolled_back_serial(world):
    """An old card still holds until it ends; who has seen a newer one is not led back to it."""
    world.publish(world.members(**BEARER), serial=7)
    old = world.card
    world.publish(world.members(**BEARER), serial=8)
    async with world.me.a2a(world.url):
        pass
    world.card = old
    before = len(world.seen)
    with pytest.raises(CardRolledBackError):
        async with world.me.a2a(world.url, secrets=SECRET):
            pass
    world.publish(leading_to(world, world.url), serial=8)  # the same serial, and another card
    with pytest.raises(CardRolledBackError):
        async with world.me.a2a(world.url, secrets=SECRET):
            pass
    assert not any("authorization" in headers for _, _, headers in world.seen[before:])


async def test_an_impostor_shows_the_true_card(world, mallory):
    """A card is public: that somebody shows it proves nothing about them."""

    async def shows_the_card(scope, receive, send):
        await (mallory(scope, receive, send) if scope.get("path") != "/card" else answer(send, 200, {}, world.card))

    async with serving(shows_the_card, mallory.shield.server_tls()) as url:
        with pytest.raises(CardPeerError):
            async with world.me.a2a(f"{url}/card", secrets=SECRET):
                pass
    assert mallory.seen == []


async def test_an_unsigned_card(world):
    """Nobody vouches for it, whoever shows it."""
    written = json.loads(world.card)
    del written["signatures"]
    world.card = json.dumps(written).encode()
    with pytest.raises(UnsignedCardError):
        async with world.me.a2a(world.url, secrets=SECRET):
            pass


async def test_a_card_that_does_not_end(world):
    """What is too much is not read to its end."""
    world.card = b'{"name": "' + b"a" * 300_000 + b'"}'
    with pytest.raises(AgentShieldError, match="more than"):
        async with world.me.a2a(world.url):
            pass


async def test_an_agent_of_the_web_whose_card_names_a_spiffe_id(world):
    """Public TLS proves a host name and no SPIFFE ID: the card's promise could not be kept. Nor is our SVID shown."""
    with pytest.raises(CardUnavailableError):  # its certificate is by no public authority
        async with world.me.a2a(world.url, via=PublicTls(), secrets=SECRET):
            pass
    with pytest.raises(ValueError, match="does not prove"):
        world.me.a2a(world.url, via=PublicTls(), expect="spiffe://example.test/a")
    assert world.seen == []
