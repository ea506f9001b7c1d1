"""Access tokens at a resource: whose call it is, and each reason for which a token is none, by its own code."""

from datetime import timedelta

import pytest
from token_world import AUDIENCE, PLANNER, token_world

from agentshield.errors import ConfigurationError
from agentshield.identity.access_token import sign_access_token
from agentshield.identity.keys import generate_private_key
from agentshield.identity.verify import verify_x509_svid
from agentshield.sdk.access_tokens import TokenVerifier
from agentshield.sdk.asgi import ShieldMiddleware, authorized_caller
from agentshield.sdk.caller import Caller
from agentshield.sdk.token_holder import TokenHolder
from agentshield.testing import FakeClock, FakeTrustDomain

ANALYST = "spiffe://example.test/agents/analyst"
TRADER = "spiffe://example.test/agents/trader"


def peer_of(world, path="/agents/planner"):
    domain = world.pair.domain
    return verify_x509_svid(domain.issue_svid(path).chain, domain.bundles(), at=domain.clock())


async def test_a_bound_token_and_its_proof_are_a_caller(world):
    """Without any SVID on the connection: who calls, for whom, how far, and with which key."""
    token = world.server.issue(jkt=world.jkt)
    assert (await world.ask(world.door(), token)).status == 200
    [caller] = world.callers
    assert (caller.spiffe_id, caller.subject, caller.issuer) == (PLANNER, PLANNER, world.server.issuer)
    assert (caller.chain, caller.scopes) == ((PLANNER,), {"AI.Task.Execute"})
    assert (caller.proof, caller.binding) == ("access-token", world.jkt)
    assert caller.record_id == world.pair.events[-1]["event_id"]
    assert token not in repr(caller)


async def test_a_user_behind_an_agent_is_the_subject_and_the_agent_the_caller(world):
    """Policy is asked about the outermost actor, and the answer knows on whose behalf it is."""
    chain = world.server.act(PLANNER, ANALYST)
    token = world.server.issue(jkt=world.jkt, subject="kim@corp.test", subject_profile="user", act_chain=chain)
    assert (await world.ask(world.door(), token)).status == 200
    [caller] = world.callers
    assert (caller.spiffe_id, caller.subject, caller.chain) == (PLANNER, "kim@corp.test", (ANALYST, PLANNER))


async def test_a_token_bound_to_the_certificate_of_the_connection(world):
    """RFC 8705: the TLS client certificate is the proof, and the scheme is Bearer."""
    peer = peer_of(world)
    token = world.server.issue(certificate=peer.chain[0])
    assert (await world.ask(world.door(), token, scheme="Bearer", peer=peer)).status == 200
    assert (await world.ask(world.door(), token, scheme="Bearer")).status == 401
    other = peer_of(world)  # the same agent, another key
    assert (await world.ask(world.door(), token, scheme="Bearer", peer=other)).status == 401
    assert {"token_unbound", "token_wrong_key"} <= set(await world.reasons("token_wrong_key"))


async def test_an_svid_alone_still_opens_what_needs_no_scope(world):
    """Agents with an SVID on the connection need no token; what asks for a scope asks them for one."""
    assert (await world.ask(world.door(scopes=()), peer=peer_of(world))).status == 200
    answer = await world.ask(world.door(), peer=peer_of(world))
    assert answer.status == 401
    assert "error=" not in answer.challenge


async def test_nobody_is_told_how_to_do_better(world):
    """RFC 6750, 3.1: a request without credentials gets a challenge without an error code."""
    answer = await world.ask(world.door())
    assert answer.status == 401
    assert "error=" not in answer.challenge
    where = 'resource_metadata="https://analyst.example.test/.well-known/oauth-protected-resource/tasks"'
    assert answer.challenge.startswith("DPoP ")
    assert ", Bearer " in answer.challenge
    assert answer.challenge.count(where) == 2
    assert world.ran == []


def past(world):
    now = world.pair.domain.clock()
    return {"issued_at": now - timedelta(minutes=10), "expires_at": now - timedelta(seconds=1)}


REFUSED = {
    "token_wrong_audience": lambda _world: {"audience": "https://other.example.test/"},
    "token_wrong_issuer": lambda _world: {"issuer": "https://elsewhere.test"},
    "token_expired": past,
    "token_unbound": lambda _world: {"confirmation": None},
    "token_wrong_subject": lambda _world: {"subject": "kim@corp.test"},
}


@pytest.mark.parametrize("code", REFUSED)
async def test_each_refusal_has_its_code_in_the_log_and_none_for_the_caller(world, code):
    """The operator learns which rule it was; the caller learns invalid_token."""
    token = world.server.issue(jkt=world.jkt, **REFUSED[code](world))
    answer = await world.ask(world.door(), token)
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.challenge
    assert code not in answer.challenge + answer.body.decode()
    assert await world.reasons() == [code]
    assert world.ran == []


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": PLANNER, "subject_profile": "user"},  # a user who is called like an agent
        {"subject": "spiffe://example.test"},
        {"subject": "spiffe://example.test/agents/*"},
    ],
)
async def test_a_name_that_is_no_agents_is_not_read_as_one(world, changes):
    """RFC 9700, 4.15: users and clients do not share a namespace."""
    assert (await world.ask(world.door(), world.server.issue(jkt=world.jkt, **changes))).status == 401
    assert await world.reasons() == ["token_wrong_subject"]


async def test_an_actor_whom_another_issuer_named_is_nobody(world):
    """A SPIFFE ID in the mouth of a foreign issuer is text."""
    from agentshield.identity.act_chain import ActChain, Party

    chain = ActChain((Party(issuer="https://elsewhere.test", subject=PLANNER),))
    assert (await world.ask(world.door(), world.server.issue(jkt=world.jkt, act_chain=chain))).status == 401
    assert await world.reasons() == ["token_wrong_subject"]


async def test_a_token_of_another_agent_on_a_proved_connection(world):
    """Who shows an SVID and somebody else's token is neither."""
    token = world.server.issue(TRADER, jkt=world.jkt)
    assert (await world.ask(world.door(), token, peer=peer_of(world))).status == 401
    assert await world.reasons() == ["token_wrong_subject"]


async def test_a_forged_token_and_a_token_of_another_kind(world):
    """A signature of another key, a token whose type is not at+jwt, and no token at all."""
    forged = sign_access_token(world.server.claims(jkt=world.jkt), generate_private_key(), kid=world.server.kid)
    svid = world.pair.domain.issue_jwt_svid("/agents/planner", [AUDIENCE]).token
    for token in (forged, svid, "a.b.c", "short", "x" * 2000):
        assert (await world.ask(world.door(), token)).status == 401
    assert set(await world.reasons()) == {"token_invalid"}


async def test_too_little_scope_is_403_and_says_which(world):
    """RFC 6750, 3.1: the client can ask for a wider token, and the refusal is a decision in the log."""
    token = world.server.issue(jkt=world.jkt, scopes=["AI.Task.Read"])
    answer = await world.ask(world.door(), token)
    assert answer.status == 403
    assert 'error="insufficient_scope"' in answer.challenge
    assert 'scope="AI.Task.Execute"' in answer.challenge
    assert await world.reasons() == ["insufficient-scope"]
    assert world.callers == []


async def test_a_scope_is_not_a_permission_that_policy_does_not_give(world):
    """A token with every scope, held by an agent that no rule allows, opens nothing."""
    token = world.server.issue(ANALYST, jkt=world.jkt)
    assert (await world.ask(world.door(), token)).status == 403


@pytest.mark.parametrize("credentials", ["Basic cGxhbm5lcjpw", "DPoP", "Bearer ", "Negotiate x"])
async def test_other_credentials_are_none(world, credentials):
    """Only the two schemes of bound tokens are read."""
    answer = await world.ask(world.door(), headers=[(b"authorization", credentials.encode())])
    assert answer.status == 401
    assert "error=" not in answer.challenge


async def test_a_request_with_two_tokens_is_refused(world):
    """Whoever sits between could have added one; which one a reader takes must not matter."""
    token = world.server.issue(jkt=world.jkt)
    second = (b"authorization", f"DPoP {token}".encode())
    assert (await world.ask(world.door(), token, headers=[second])).status == 401


async def test_a_suspended_agent_anywhere_in_the_chain_stops_the_call(world):
    """Suspension stands above tokens that are still good, also for whom the caller acts through."""
    chain = world.server.act(PLANNER, ANALYST)
    token = world.server.issue(jkt=world.jkt, subject="kim", subject_profile="user", act_chain=chain)
    door = world.door()
    assert (await world.ask(door, token)).status == 200
    await world.pair.suspend("analyst")
    assert (await world.ask(door, token)).status == 403
    assert "agent-suspended" in await world.reasons("agent-suspended")


async def test_a_new_signing_key_is_found_once_and_made_up_ones_cost_nothing(world):
    """One refetch on an unknown key; within the cool-down no more, however many keys a flood names."""
    door = world.door()
    assert (await world.ask(door, world.server.issue(jkt=world.jkt))).status == 200
    forged = [
        sign_access_token(world.server.claims(jkt=world.jkt), generate_private_key(), kid=f"{n}") for n in range(5)
    ]
    for token in forged:
        assert (await world.ask(door, token)).status == 401
    assert world.server.asked.count("/oauth/jwks") == 1


async def test_a_rolled_key_is_found_after_the_cool_down():
    """The authorization server rolls its key: the first token under the new one makes us look again."""
    clock = FakeClock()
    async with token_world(FakeTrustDomain(clock=clock)) as world:
        door = world.door()
        assert (await world.ask(door, world.server.issue(jkt=world.jkt))).status == 200
        world.server.roll()
        clock.advance(timedelta(seconds=11))
        await renewed(world, door)
        assert (await world.ask(door, world.server.issue(jkt=world.jkt))).status == 200
        assert world.server.asked.count("/oauth/jwks") == 2


async def renewed(world, door):
    """Wait until the revocation feed has a lease for the clock's new time."""
    import asyncio

    for _ in range(100):
        if (await world.ask(door, world.server.issue(jkt=world.jkt))).status != 503:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the feed does not come back")


@pytest.mark.parametrize(
    "changes", [{"issuer": "https://elsewhere.test"}, {"jwks_uri": "https://elsewhere.test/jwks"}, {"jwks_uri": None}]
)
async def test_metadata_that_leads_elsewhere_is_not_followed(world, changes):
    """RFC 8414, 3.3: a document of another issuer, or keys that are not below ours, verify nothing."""
    world.server.metadata_changes = changes
    assert (await world.ask(world.door(), world.server.issue(jkt=world.jkt))).status == 503
    assert world.ran == []


async def test_an_opaque_token_is_what_the_server_says_it_is(world):
    """Introspected, bound and decided like any other; unknown, for others, and unbound ones are refused."""
    world.server.opaque = {
        "good-" + "x" * 30: world.server.claims(jkt=world.jkt),
        "other-" + "x" * 30: world.server.claims(jkt=world.jkt, audience="https://other.example.test/"),
        "bearer-" + "x" * 30: world.server.claims(),
    }
    door = world.door()
    statuses = [(await world.ask(door, token)).status for token in [*world.server.opaque, "none-" + "x" * 30]]
    assert statuses == [200, 401, 401, 401]
    assert (await world.reasons("token_expired"))[-3:] == ["token_wrong_audience", "token_unbound", "token_expired"]


async def test_a_stream_ends_when_its_token_is_revoked(world):
    """An answer that goes on for long is cut off by the revocation, like one whose caller is suspended."""
    import asyncio

    claims = world.server.claims(jkt=world.jkt)
    sent = []

    async def endless(scope, receive, send):
        await authorized_caller(scope, "run")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        world.server.revoke(claims.jti)
        for _ in range(100):
            await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
        sent.append("never ended")

    door = ShieldMiddleware(endless, world.pair.analyst, tokens=world.verifier())
    answer = await world.ask(door, sign_access_token(claims, world.server.key, kid=world.server.kid))
    assert answer.status == 200
    assert sent == []


def test_a_holder_cannot_be_written_by_hand(world):
    """Like a VerifiedIdentity: a token's holder is what verification returns, or nobody."""
    with pytest.raises(TypeError):
        TokenHolder(spiffe_id=ANALYST, claims=world.server.claims(jkt=world.jkt), value="x")
    with pytest.raises(TypeError):
        Caller(identity=world.server.claims(jkt=world.jkt))


def test_what_must_be_configured(monkeypatch):
    """No issuer, no base URL that proofs could name, an issuer in the clear: mistakes, told at start."""
    monkeypatch.delenv("AGENTSHIELD_TOKEN_SERVICE", raising=False)
    with pytest.raises(ConfigurationError, match="AGENTSHIELD_TOKEN_SERVICE"):
        TokenVerifier(audience=AUDIENCE)
    with pytest.raises(ConfigurationError, match="base_url"):
        TokenVerifier(audience="api://analyst", issuer="https://localhost:1")
    with pytest.raises(ConfigurationError, match="issuer"):
        TokenVerifier(audience=AUDIENCE, issuer="http://localhost:1")
    with pytest.raises(ConfigurationError, match="audience"):
        TokenVerifier(audience="", issuer="https://localhost:1")
    monkeypatch.setenv("AGENTSHIELD_TOKEN_SERVICE", "https://localhost:9443")
    assert ShieldMiddleware(None, tokens=AUDIENCE)._tokens.resource.issuer == "https://localhost:9443"
