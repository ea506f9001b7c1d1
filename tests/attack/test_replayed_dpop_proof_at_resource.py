"""A DPoP proof that was seen on its way is good for nothing more: not again, not elsewhere, not later."""

from datetime import timedelta

import pytest
from token_world import AUDIENCE, BASE_URL, world

from agentshield.identity.dpop import sign_dpop_proof

__all__ = ["world"]


@pytest.fixture
def token(world):
    return world.server.issue(jkt=world.jkt)


async def test_the_same_proof_twice(world, token):
    """The first request passes, its recording does not."""
    door, proof = world.door(), world.proof(token)
    assert (await world.ask(door, token, proofs=[proof])).status == 200
    answer = await world.ask(door, token, proofs=[proof])
    assert answer.status == 401
    assert 'error="invalid_dpop_proof"' in answer.challenge
    assert "dpop_replayed" in await world.reasons("dpop_replayed")
    assert len(world.ran) == 1


async def test_a_refused_request_does_not_burn_the_owners_proof_for_a_thief(world, token):
    """Only a proof that held is remembered: a stranger cannot fill the memory with made-up ones."""
    door, proof = world.door(), world.proof(token)
    other = world.server.issue(jkt=world.jkt)
    assert (await world.ask(door, other, proofs=[proof])).status == 401
    assert (await world.ask(door, token, proofs=[proof])).status == 200


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"method": "POST"},
        {"url": f"{BASE_URL}/other"},
        {"url": "https://someone-else.test/run"},
        {"url": "http://analyst.example.test/run"},
        {"url": AUDIENCE},
    ],
)
async def test_a_proof_for_another_request(world, token, elsewhere):
    """Recorded at one address, it opens no other."""
    assert (await world.ask(world.door(), token, proofs=[world.proof(token, **elsewhere)])).status == 401
    assert await world.reasons() == ["dpop_invalid"]


async def test_the_host_header_does_not_say_where_we_are(world, token):
    """A proof made for an attacker's server, sent on to us under the attacker's name."""
    proof = world.proof(token, url="https://evil.test/run")
    host = [(b"host", b"evil.test"), (b"x-forwarded-host", b"evil.test")]
    assert (await world.ask(world.door(), token, proofs=[proof], headers=host)).status == 401


@pytest.mark.parametrize("age", [timedelta(minutes=2), -timedelta(minutes=2)])
async def test_a_proof_of_another_time(world, token, age):
    """Made beforehand, or kept."""
    at = world.pair.domain.clock() - age
    proof = sign_dpop_proof(world.key, method="GET", url=f"{BASE_URL}/run", at=at, access_token=token)
    assert (await world.ask(world.door(), token, proofs=[proof])).status == 401


async def test_a_proof_without_the_tokens_hash(world, token):
    """A proof made for the token endpoint, or for another token, does not go with this one (4.3 (12))."""
    assert (await world.ask(world.door(), token, proofs=[world.proof(None)])).status == 401
    assert (await world.ask(world.door(), token, proofs=[world.proof("another")])).status == 401
