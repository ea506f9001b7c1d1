"""`spiffe_wit`: the agent it lets in, and those it does not; attacks: tests/attack/test_wit_without_its_key.py."""

from dataclasses import replace
from datetime import timedelta

import pytest
from oauth_world import BILLING, MINUTE, PLANNER
from wit_forge import WitForge, new_key, public_jwk
from wit_world import WitWorld

from agentshield.identity.dpop import sign_dpop_proof
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.settings import ATTESTATION_DRAFT, SPIFFE_WIT_DRAFT


@pytest.fixture
def world() -> WitWorld:
    return WitWorld()


async def refusal(world, request, code=OAuthErrorCode.INVALID_CLIENT) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(request)
    assert caught.value.error is code, caught.value
    return caught.value


async def test_a_wit_and_a_proof_of_its_key_are_a_client(world):
    """The draft, 3.3: an agent is a client by what its node agent gave it, and nobody handed it a secret."""
    client = await world.authenticate(world.shown())
    assert (client.client_id, client.agent.spiffe_id) == (str(PLANNER), PLANNER)
    assert client.method is ClientAuthMethod.SPIFFE_WIT
    assert client.thumbprints == {f"jkt:{world.jkt}"}
    assert [(use.kind, use.scope, use.value) for use in client.uses] == [("attestation-pop", world.jkt, "proof-1")]
    assert client.binding is None  # the proof is for us; what tokens are bound to, a DPoP proof or the connection says


async def test_tokens_are_bound_to_the_dpop_key_beside_it(world):
    """The WIT's own key, if it signs that proof; else both are proved."""
    client = await world.authenticate(world.with_dpop(world.shown()))
    assert client.thumbprints == {f"jkt:{world.jkt}", f"jkt:{client.binding.jkt}"}
    assert [use.kind for use in client.uses] == ["attestation-pop", "dpop"]
    request = world.shown()
    own = sign_dpop_proof(world.holder.private_key, method="POST", url=request.url, at=world.clock())
    assert (await world.authenticate(replace(request, dpop=(own,)))).binding.jkt == world.jkt


@pytest.mark.parametrize("curve", ["P-384", "P-521", "RSA"])
async def test_a_workload_has_any_key_that_the_standard_allows(world, curve):
    """WIT-SVID 3.2."""
    world.holder = new_key(curve)
    assert (await world.authenticate(world.shown())).thumbprints == {f"jkt:{world.jkt}"}


async def test_one_wit_goes_with_many_proofs(world):
    """It lives for an hour, and its jti is no nonce (WIT-SVID 3.3)."""
    wit = world.wit(jti="w-1")
    for n in range(3):
        client = await world.authenticate(world.shown(wit=wit, proof=world.proof(jti=f"p-{n}")))
        await world.store.tokens.issue(None, uses=client.uses, at=world.clock())


async def test_a_client_id_is_the_agent_s_own_or_registered_for_it(world):
    """RFC 7521, 4.2, for headers alike: the planner's WIT must not make billing the client."""
    await world.store.clients.put(world.client(ClientAuthMethod.SPIFFE_WIT))
    await world.store.clients.put(world.client(ClientAuthMethod.SPIFFE_WIT, client_id="billing-app", spiffe_id=BILLING))
    await world.store.clients.put(world.client(ClientAuthMethod.SPIFFE_JWT, client_id="other-method"))
    for name in (str(PLANNER), "planner-app"):
        assert (await world.authenticate(world.shown(client_id=name))).client_id == name
    for name in (str(BILLING), "billing-app", "other-method", "nobody"):
        await refusal(world, world.shown(client_id=name))


async def test_it_is_off_unless_its_draft_is_on(world):
    """The next number of a draft may mean another thing; and attestation is another draft."""
    for drafts in ((), (ATTESTATION_DRAFT,)):
        world.settings = replace(world.settings, drafts=frozenset(drafts))
        assert SPIFFE_WIT_DRAFT in str((await refusal(world, world.shown())).hint)


async def test_an_attester_s_token_does_not_come_by_it(world):
    """With only this draft on, the other kind of attestation in the same header stays off."""
    other = world.wit(header={"typ": "oauth-client-attestation+jwt"})
    assert ATTESTATION_DRAFT in str((await refusal(world, world.shown(wit=other))).hint)


async def test_each_header_is_there_once(world):
    """attestation-based-client-auth-11, 6.1: of two, one would go unread."""
    whole = world.shown()
    for changes in (
        {"client_attestation_pop": ()},
        {"client_attestation_pop": whole.client_attestation_pop * 2},
    ):
        await refusal(world, replace(whole, **changes), OAuthErrorCode.INVALID_REQUEST)
    for changes in ({"client_attestation": ()}, {"client_attestation": whole.client_attestation * 2}):
        await refusal(world, replace(whole, **changes))


async def test_a_second_method_beside_it_is_refused(world):
    """RFC 6749, 2.3."""
    jwt = world.jwt_svid()
    both = replace(world.shown(), form=jwt.form)
    await refusal(world, both, OAuthErrorCode.INVALID_REQUEST)


@pytest.mark.parametrize("gone", ["suspended", "deleted"])
async def test_an_agent_that_is_not_active_is_no_client(world, gone):
    """One suspension stops this proof as all others."""
    if gone == "suspended":
        world.directory.suspend(PLANNER)
    else:
        world.directory.agents.pop(PLANNER)
    await refusal(world, world.shown())


async def test_a_connection_of_another_agent_is_refused(world):
    """Else billing could have the planner's token bound to its own certificate."""
    await refusal(world, world.with_svid(world.shown(), world.domain.issue_svid(str(BILLING))))


async def test_a_wit_of_another_trust_domain_is_refused(world):
    """Its workloads come with a federated credential, if at all."""
    partner = WitForge(world.clock())
    wit = partner.wit(world.holder, sub="spiffe://partner.test/agents/planner")
    await refusal(world, world.shown(wit=wit))


async def test_a_wit_of_an_authority_that_went_is_refused(world):
    """Trust is what the bundle says now."""
    request = world.shown()
    world.forge = WitForge(world.clock(), kid="wit-2")
    await refusal(world, request)


@pytest.mark.parametrize("age", [timedelta(seconds=61), MINUTE * 30])
async def test_a_proof_that_was_kept_is_refused(world, age):
    """The WIT is good for an hour, its proof for a minute."""
    request = world.shown()
    world.clock.advance(age)
    await refusal(world, request)


async def test_why_is_for_us_and_not_for_the_client(world):
    """Who probes learns nothing from the words."""
    error = await refusal(world, world.shown(wit=world.wit(jwk=public_jwk(new_key()))))
    assert error.description == "client authentication failed"
    assert error.rule == "spiffe-client-auth-02 spiffe_wit"
