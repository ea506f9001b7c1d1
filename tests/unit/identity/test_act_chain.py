"""Who acts for whom: a chain that only grows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentshield.identity.act_chain import ActChain, ChainTooDeepError, InvalidActChainError, Party

names = st.text(min_size=1, max_size=20)
parties = st.builds(Party, issuer=names, subject=names, profile=st.none() | names)
chains = st.lists(parties, max_size=5).map(lambda actors: ActChain(tuple(actors)))


@given(chains)
def test_chain_survives_its_claim(chain):
    """An actor lost on the way would act unseen."""
    assert ActChain.from_claim(chain.to_claim()) == chain


@given(chains, parties)
def test_chain_grows_by_one_in_front(chain, party):
    """Whoever joins comes first, and nobody before is dropped or changed."""
    longer = chain.extended_by(party, max_depth=6)
    assert longer.current == party
    assert longer.actors[1:] == chain.actors


def test_sixth_actor_is_refused():
    """A chain without an end is a loop somebody pays for."""
    chain = ActChain()
    for number in range(5):
        chain = chain.extended_by(Party(issuer="i", subject=str(number)))
    with pytest.raises(ChainTooDeepError):
        chain.extended_by(Party(issuer="i", subject="5"))
    with pytest.raises(ChainTooDeepError):
        ActChain.from_claim({"iss": "i", "sub": "x", "act": chain.to_claim()})


@pytest.mark.parametrize(
    "claim",
    [
        "alice",
        [],
        {},
        {"sub": "x"},
        {"iss": "i"},
        {"iss": "", "sub": "x"},
        {"iss": "i", "sub": 5},
        {"iss": "i", "sub": "x" * 2049},
        {"iss": "i", "sub": "x", "exp": 5},
        {"iss": "i", "sub": "x", "act": None},
        {"iss": "i", "sub": "x", "act": "y"},
        {"iss": "i", "sub": "x", "sub_profile": 5},
    ],
)
def test_half_an_actor_is_none(claim):
    """TX-09: a subject without its issuer could be anybody's, and what else `act` says has no meaning."""
    with pytest.raises(InvalidActChainError):
        ActChain.from_claim(claim)


def test_same_name_at_another_issuer_is_another():
    """Who can choose a subject at one issuer must not become somebody at another."""
    assert not Party(issuer="i", subject="x").is_same_as(Party(issuer="j", subject="x"))
    assert Party(issuer="i", subject="x", profile="user").is_same_as(Party(issuer="i", subject="x"))
