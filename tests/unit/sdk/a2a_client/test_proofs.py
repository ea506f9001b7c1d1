"""What goes along with a call, on the wire: each kind of credential, where it belongs and nowhere else."""

import json
import ssl
from base64 import b64decode
from dataclasses import replace

import pytest
import trustme
import uvicorn.protocols.http.httptools_impl
from a2a_agent import agent_app, card_members
from a2a_client_world import A2AClientWorld, answer, free_port
from token_world import TokenServer

from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.errors import CardKeyNotValidError
from agentshield.identity.agent_card.jose import CardSigner
from agentshield.identity.agent_card.signature import EnrolledKey, EnrolledKeys, sign_card
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.keys import generate_private_key
from agentshield.sdk.a2a.errors import AgentFailedError
from agentshield.sdk.a2a.once import once_extension
from agentshield.sdk.a2a_client.credentials import ApiKey, BasicLogin, PublicTls
from agentshield.sdk.a2a_client.errors import (
    AnswerLostError,
    CardPeerError,
    CardUnavailableError,
    NoUsableRequirementError,
)
from agentshield.sdk.clients.oauth import SERVER_PATH
from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from agentshield.testing.server import serving


def asking(world, **schemes):
    """Publish a card that asks for all of these together."""
    requirement = {"schemes": {name: {"list": ["a2a"]} for name in schemes}}
    world.publish(world.members(securitySchemes=schemes, securityRequirements=[requirement]))


@pytest.fixture
async def token_server(world):
    server = TokenServer(world.domain)
    tls = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL, clock=world.domain.clock)
    tls.update(world.domain.issue_svid(SERVER_PATH), world.domain.bundles())
    async with serving(server, tls) as url:
        server.issuer = url
        yield server
        await world.me.__aexit__(None, None, None)  # whatever waits at the server goes first


async def test_a_token_of_our_service_goes_along_bound_to_a_key(world, token_server):
    """For the agent's origin, with the scopes of the requirement, and a proof for each request."""
    flow = {"tokenUrl": f"{token_server.issuer}/oauth/token", "scopes": {"a2a": "Call"}}
    asking(world, tokens={"oauth2SecurityScheme": {"description": "Tokens", "flows": {"clientCredentials": flow}}})
    async with world.me.a2a(world.url, issuer=token_server.issuer) as agent:
        await agent.send("echo hello")
    _, _, headers = world.seen[-1]
    assert headers["authorization"].startswith("DPoP ")
    assert headers["dpop"]
    (form,) = token_server.forms
    assert (form["resource"], form["scope"]) == (world.url, "a2a")


async def test_a_token_url_of_the_card_is_never_asked(world, token_server):
    """The card says whose tokens the agent takes; who issues ours, it does not choose."""
    flow = {"tokenUrl": "https://as.evil.test/token", "scopes": {"a2a": "Call"}}
    asking(world, tokens={"oauth2SecurityScheme": {"description": "Tokens", "flows": {"clientCredentials": flow}}})
    async with world.me.a2a(world.url, issuer=token_server.issuer) as agent:
        with pytest.raises(NoUsableRequirementError, match=r"it takes tokens of 'https://as.evil.test/token'"):
            await agent.send("echo hello")
    assert token_server.forms == []
    assert len(world.seen) == 1


async def test_a_jwt_svid_is_for_the_agents_origin(world):
    """Whoever gets it cannot use it anywhere else."""
    asking(world, bearer={"httpAuthSecurityScheme": {"scheme": "Bearer", "description": "A JWT-SVID"}})
    async with world.me.a2a(world.url) as agent:
        await agent.send("echo hello")
    kind, token = world.seen[-1][2]["authorization"].split()
    identity = await world.pair.analyst.verify_jwt_svid(token, audience=world.url)
    assert kind == "Bearer"
    assert identity.spiffe_id == world.me.spiffe_id


async def test_secrets_go_where_the_card_says_all_together(world):
    """Name and password, a cookie and a query: one requirement, all of it."""
    key = {"description": "A key", "name": "key"}
    asking(
        world,
        login={"httpAuthSecurityScheme": {"scheme": "Basic", "description": "A login"}},
        cookie={"apiKeySecurityScheme": {**key, "location": "cookie"}},
        query={"apiKeySecurityScheme": {**key, "location": "query"}},
    )
    secrets = {
        "login": BasicLogin(user="u", password="p"),
        "cookie": ApiKey(value="a;b"),
        "query": ApiKey(value="q&r", places=frozenset({"query"})),
    }
    async with world.me.a2a(world.url, secrets=secrets) as agent:
        await agent.send("echo hello")
    headers = world.seen[-1][2]
    assert b64decode(headers["authorization"].removeprefix("Basic ")) == b"u:p"
    assert headers["cookie"] == "key=a%3Bb"
    assert world.queries[-1] == "key=q%26r"
    assert not any("authorization" in each[2] or "cookie" in each[2] for each in world.seen[:1])


async def test_an_agent_that_breaks_has_failed(world):
    """An error page of a proxy is no answer of A2A, and no riddle either."""
    async with world.me.a2a(world.url) as agent:
        world.breaks = True
        with pytest.raises(AgentFailedError):
            await agent.send("echo hello")


async def test_a_lost_answer_can_be_asked_for_again(world):
    """Nobody knows whether it was done: the program decides, with the same messageId."""
    async with world.me.a2a(world.url) as agent:
        world.lose_answers = 1
        with pytest.raises(AnswerLostError) as lost:
            await agent.send("echo hello")
        session = await agent.send("echo hello", message_id=lost.value.message_id)
        assert (await session.result()).text == "hello"
    ids = {json.loads(body)["params"]["message"]["messageId"] for body in world.bodies if b"messageId" in body}
    assert ids == {lost.value.message_id}


async def test_an_agent_that_knows_messages_again_is_sent_it_twice(world):
    """One that speaks our extension does the work of one messageId once."""
    world.publish(extensions=[once_extension()])
    async with world.me.a2a(world.url) as agent:
        world.lose_answers = 1
        assert (await (await agent.send("echo hello")).result()).text == "hello"
        world.lose_answers = 2
        with pytest.raises(AnswerLostError):
            await agent.send("echo hello")
    ids = [json.loads(body)["params"]["message"]["messageId"] for body in world.bodies if b"messageId" in body]
    assert len(ids) == 4
    assert len(set(ids)) == 2


class WebAgent:
    """An agent of the web: https by a public authority, a card by a key, an API key."""

    def __init__(self, url, key):
        scheme = {"apiKeySecurityScheme": {"location": "header", "name": "X-Key", "description": "A key"}}
        asks = [{"schemes": {"key": {"list": ["any"]}}}]
        members = {**card_members(url), "securitySchemes": {"key": scheme}, "securityRequirements": asks}
        self.card = sign_card(AgentCard.of(members), CardSigner(kid="k", key=key))
        self.app = agent_app(url)
        self.keys = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/.well-known"):
            await answer(send, 200, {}, self.card)
            return
        self.keys += [value for name, value in scope.get("headers", ()) if name == b"x-key"]
        await self.app(scope, receive, send)


async def test_an_agent_of_the_web_is_called_where_the_program_says_so():
    """By public TLS and an enrolled key; by neither alone."""
    async with A2AClientWorld() as world:
        ca, port, key = trustme.CA(), free_port(), generate_private_key()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(tls)
        url = f"https://127.0.0.1:{port}"
        web = WebAgent(url, key)
        enrolled = EnrolledKey(kid="k", public_key=key.public_key(), origins=frozenset({url}), takes_sdk_form=True)
        options = {"secrets": {"key": ApiKey(value="k-1")}, "keys": EnrolledKeys((enrolled,))}
        plain = uvicorn.protocols.http.httptools_impl.HttpToolsProtocol
        async with serving(web, lambda *_: tls, port=port, protocol=plain):
            via = PublicTls(ca_pem=ca.cert_pem.bytes())
            async with world.me.a2a(url, via=via, **options) as agent:
                assert (await (await agent.send("echo hello")).result()).text == "hello"
            assert set(web.keys) == {b"k-1"}
            web.keys.clear()
            with pytest.raises(CardUnavailableError):
                async with world.me.a2a(url, via=PublicTls(), **options):
                    pass
            with pytest.raises(InvalidSvidError):
                async with world.me.a2a(url, **options):
                    pass
            assert web.keys == []


async def test_a_card_without_a_spiffe_id_needs_one_said(world):
    """Any workload could answer at its address."""
    key = generate_private_key()
    members = {**world.members(), "capabilities": {"streaming": True}}
    world.card = sign_card(AgentCard.of(members), CardSigner(kid="k", key=key))
    enrolled = EnrolledKey(kid="k", public_key=key.public_key(), origins=frozenset({world.url}), takes_sdk_form=True)
    keys = EnrolledKeys((enrolled,))
    async with world.me.a2a(world.url, keys=keys) as agent:
        with pytest.raises(CardPeerError):
            await agent.send("echo hello")
    async with world.me.a2a(world.url, keys=keys, expect=world.domain.agent_id("analyst")) as agent:
        await agent.send("echo hello")
    revoked = EnrolledKeys((replace(enrolled, is_revoked=True),))
    with pytest.raises(CardKeyNotValidError):
        async with world.me.a2a(world.url, keys=revoked):
            pass
