"""A WIT-SVID is text that passes many hands; the attacker has seen one, and wants to be the workload it names."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from identity_forges import TokenForge
from oauth_world import AS, BILLING, JWT_SPIFFE, PLANNER
from wit_forge import WitForge, new_key, public_jwk, signed
from wit_world import WitWorld

from agentshield.identity.bundle import TrustBundle
from agentshield.identity.errors import InvalidBundleError
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode


@pytest.fixture
def world() -> WitWorld:
    return WitWorld()


async def refused(world, request, code=OAuthErrorCode.INVALID_CLIENT):
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(request)
    assert caught.value.error is code, caught.value


async def test_the_honest_client_passes(world):
    """What the attacks below change must be the reason for their refusal."""
    assert (await world.authenticate(world.shown())).agent.spiffe_id == PLANNER


async def test_a_wit_alone_is_nobody(world):
    """WSV-11: without a proof of its key it is no credential, in its own header or in another."""
    await refused(world, replace(world.shown(), client_attestation_pop=()), OAuthErrorCode.INVALID_REQUEST)
    await refused(world, replace(world.request(), authorization=f"Bearer {world.wit()}"))


async def test_a_proof_by_another_key_proves_another_key(world):
    """WIT-11: the thief has a key, but not this one."""
    await refused(world, world.shown(proof=world.proof(new_key())))


async def test_a_proof_that_brings_its_key_is_refused(world):
    """The key is the WIT's; what the proof's header shows or points to is the thief's."""
    thief = new_key()
    for header in ({"jwk": public_jwk(thief)}, {"jku": "https://thief.test/"}, {"x5u": "https://thief.test/"}):
        await refused(world, world.shown(proof=world.proof(thief, header=header)))


async def test_a_proof_is_used_up(world):
    """Whoever saw both headers go by must be too late, with this WIT and with the next for the same key."""
    request = world.shown()
    await world.store.tokens.issue(None, uses=(await world.authenticate(request)).uses, at=world.clock())
    again = replace(request, client_attestation=(world.wit(jti="the next one"),))
    for replayed in (request, again):
        client = await world.authenticate(replayed)
        with pytest.raises(AlreadyUsedError):
            await world.store.tokens.issue(None, uses=client.uses, at=world.clock())


async def test_a_wit_for_the_planner_s_key_in_another_name_does_not_take_its_proof(world):
    """A proof that says whose it is cannot be put beside a WIT that billing had made for the planner's public key."""
    wit = world.wit(sub=str(BILLING))
    await refused(world, world.shown(wit=wit, proof=world.proof(iss=str(PLANNER))))


@pytest.mark.parametrize("audience", ["https://hostile.test", AS + "/oauth/token", [AS, "https://hostile.test"], ""])
async def test_a_proof_for_another_server_is_refused(world, audience):
    """A hostile server passes on what it was shown."""
    await refused(world, world.shown(proof=world.proof(audience=audience)))


async def test_a_wit_is_no_jwt_svid(world):
    """Kind confusion: as a client assertion it would be a bearer token."""
    for wit in (world.wit(), world.wit(aud=AS), world.wit(aud=AS, header={"typ": "JWT"})):
        await refused(world, world.request(client_assertion_type=JWT_SPIFFE, client_assertion=wit))


async def test_a_jwt_svid_is_no_wit(world):
    """The reverse: whoever may have a bearer token must not choose a key for it, whatever type it is sent under."""
    svid = world.domain.issue_jwt_svid(str(PLANNER), (AS,)).token
    await refused(world, world.shown(wit=svid))


async def test_a_key_for_jwt_svids_signs_no_wits(world):
    """WSV-14: a claim `cnf` that a JWT authority signed is not the word of a WIT authority."""
    jwt_authority = world.domain.jwt_issuer
    forge = world.forge
    forge.kid, forge.key = jwt_authority.key_id, type(forge.key).import_key(jwt_authority.private_key)
    wit = world.wit()
    world.forge = WitForge(world.clock())
    await refused(world, world.shown(wit=wit))


async def test_a_wit_s_key_for_a_proof_is_no_authority(world):
    """The holder signs itself another name with the key that its WIT names."""
    now = int(world.clock().timestamp())
    claims = {"sub": str(BILLING), "exp": now + 60, "cnf": {"jwk": public_jwk(world.holder)}}
    for kid in (world.forge.kid, world.jkt):
        wit = signed(world.holder, {"alg": "ES256", "typ": "wit+jwt", "kid": kid}, claims)
        await refused(world, world.shown(wit=wit))


@pytest.mark.parametrize("member", ["jku", "x5u"])
async def test_a_wit_that_points_to_keys_leads_nowhere(world, member):
    """WIT-10: nobody fetches what a token points to; the world's fetcher fails the test that reaches it."""
    thief = WitForge(world.clock())
    await refused(world, world.shown(wit=thief.wit(world.holder, header={member: "https://thief.test/keys"})))


@pytest.mark.parametrize("alg", ["PS256", "RS512", "PS512"])
async def test_a_proof_under_another_algorithm_than_the_wit_names_is_refused(world, alg):
    """One key under two algorithms weakens both, and the WIT names one."""
    world.holder = new_key("RSA")
    assert await world.authenticate(world.shown())
    await refused(world, world.shown(proof=world.proof(header={"alg": alg})))


async def test_a_mac_under_the_public_key_is_no_proof(world):
    """Everybody has the public key, the WIT shows it."""
    forge = TokenForge(key=world.holder.private_key)
    payload = {"aud": AS, "jti": "p", "iat": int(world.clock().timestamp())}
    for alg in ("HS256", "none", "ES256"):
        header = {"alg": alg, "typ": "oauth-client-attestation-pop+jwt"}
        await refused(world, world.shown(proof=forge.token(payload, header=header, sign=forge.mac_with_public_key)))


async def test_an_expired_wit_with_a_fresh_proof_is_refused(world):
    """The workload was taken off its node; its key is all that it has left."""
    wit = world.wit()
    world.clock.advance(timedelta(hours=1))
    fresh = world.proof(iat=int(world.clock().timestamp()))
    await refused(world, world.shown(wit=wit, proof=fresh))


async def test_a_private_key_in_a_wit_is_no_key(world):
    """Whoever sees such a WIT can make its proofs."""
    jwk = public_jwk(world.holder, d=world.holder.as_dict(private=True)["d"])
    await refused(world, world.shown(wit=world.wit(jwk=jwk)))


async def test_a_bundle_whose_kid_means_two_keys_is_refused(world):
    """Else the partner who publishes it decides which of them signed."""
    entries = [world.forge.jwk(), WitForge(world.clock()).jwk(use="jwt-svid")]
    with pytest.raises(InvalidBundleError, match="twice"):
        TrustBundle.from_json(world.domain.trust_domain, json.dumps({"keys": entries}).encode())
