"""A token that leaked, from a log, a proxy or a crash report, is worth nothing without the key it is bound to."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from token_world import world

from agentshield.identity.keys import generate_private_key
from agentshield.identity.verify import verify_x509_svid

__all__ = ["world"]


@pytest.fixture
def stolen(world):
    return world.server.issue(jkt=world.jkt)


async def test_as_a_bearer_token(world, stolen):
    """The plainest replay, which others let pass."""
    assert (await world.ask(world.door(), stolen, scheme="Bearer")).status == 401
    assert await world.reasons() == ["token_unbound"]


async def test_with_a_proof_of_the_thiefs_own_key(world, stolen):
    """A good proof, of another key than the token's."""
    proof = world.proof(stolen, key=generate_private_key())
    assert (await world.ask(world.door(), stolen, proofs=[proof])).status == 401
    assert await world.reasons() == ["token_wrong_key"]


async def test_without_a_proof_or_with_one_too_many(world, stolen):
    """None, and two of which one is right: neither is one proof (RFC 9449, 4.3 (1))."""
    right, wrong = world.proof(stolen), world.proof(stolen, key=generate_private_key())
    for proofs in ([], [right, wrong], [wrong, right]):
        assert (await world.ask(world.door(), stolen, proofs=proofs)).status == 401
    assert set(await world.reasons()) == {"dpop_invalid"}


async def test_as_bearer_with_the_owners_proof_beside_it(world, stolen):
    """RFC 9449, 7.1: a token bound to a DPoP key is not taken under the other scheme."""
    answer = await world.ask(world.door(), stolen, scheme="Bearer", proofs=[world.proof(stolen)])
    assert answer.status == 401


async def test_by_another_agent_with_an_svid_of_its_own(world, stolen):
    """A real identity does not make somebody else's token its own, not even with the owner's proof."""
    domain = world.pair.domain
    thief = verify_x509_svid(domain.issue_svid("/agents/trader").chain, domain.bundles(), at=domain.clock())
    assert (await world.ask(world.door(), stolen, peer=thief)).status == 401
    bound = world.server.issue(certificate=domain.issue_svid("/agents/planner").chain[0].public_bytes(Encoding.DER))
    assert (await world.ask(world.door(), bound, scheme="Bearer", peer=thief)).status == 401
    assert "token_wrong_key" in await world.reasons("token_wrong_key")


async def test_the_owner_is_let_in(world, stolen):
    """None of this is because the token was bad."""
    assert (await world.ask(world.door(), stolen)).status == 200
