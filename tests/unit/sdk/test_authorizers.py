"""Authorizers: exactly the peers named, and never everybody by accident."""

import pytest

from agentshield.identity.errors import InvalidSpiffeIdError, PeerNotAllowedError
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_x509_svid
from agentshield.sdk.authorizers import all_of, any_of, authorizer_for, member_of, only
from agentshield.testing import FakeTrustDomain

ANALYST = "spiffe://example.test/agents/analyst"


@pytest.fixture(scope="module")
def peer():
    def of(path, name="example.test"):
        domain = FakeTrustDomain(name)
        return verify_x509_svid(domain.issue_svid(path).chain, domain.bundles(), at=domain.clock())

    return of


def test_only_accepts_whom_it_names(peer):
    """One of the list passes; a neighbour with a longer name does not."""
    authorize = only(ANALYST, SpiffeId.parse("spiffe://example.test/agents/trader"))
    authorize(peer("/agents/analyst"))
    authorize(peer("/agents/trader"))
    for path in ("/agents/analyst2", "/agents", "/agents/analyst/sub", "/agents/Analyst"):
        with pytest.raises(PeerNotAllowedError):
            authorize(peer(path))


def test_the_same_path_in_another_domain_is_somebody_else(peer):
    """A partner's /agents/analyst is not ours."""
    with pytest.raises(PeerNotAllowedError, match=r"partner\.test"):
        only(ANALYST)(peer("/agents/analyst", "partner.test"))


def test_member_of_is_about_the_whole_domain_name(peer):
    """A domain whose name begins like ours is not ours."""
    member_of("example.test")(peer("/x"))
    for name in ("example.test.evil", "xexample.test", "partner.test"):
        with pytest.raises(PeerNotAllowedError):
            member_of("example.test")(peer("/x", name))


def test_combinations(peer):
    """all_of wants every one, any_of one."""
    both = all_of(member_of("example.test"), only(ANALYST))
    both(peer("/agents/analyst"))
    with pytest.raises(PeerNotAllowedError):
        both(peer("/agents/trader"))
    either = any_of(member_of("partner.test"), only(ANALYST))
    either(peer("/agents/analyst"))
    either(peer("/anything", "partner.test"))
    with pytest.raises(PeerNotAllowedError, match="a member of partner"):
        either(peer("/agents/trader"))


@pytest.mark.parametrize("make", [only, member_of, all_of, any_of])
def test_nobody_is_a_mistake(make):
    """An empty list comes from a configuration that was not read; it must not wait for the first refused call."""
    with pytest.raises(ValueError, match="needs at least one peer"):
        make()


@pytest.mark.parametrize("expected", [[], (), set(), ""])
def test_an_empty_expectation_is_refused(expected):
    """`expect=[]` and `expect=""` mean nobody, which is never meant."""
    with pytest.raises((ValueError, InvalidSpiffeIdError)):
        authorizer_for(expected)


def test_a_trust_domain_for_a_single_peer_is_refused():
    """Text that names a domain must not silently stand for all of its workloads."""
    with pytest.raises(ValueError, match="say member_of"):
        authorizer_for("spiffe://example.test")
    with pytest.raises(InvalidSpiffeIdError):
        authorizer_for("example.test")


def test_what_may_be_written_for_expect(peer):
    """One ID, several, a TrustDomain value, an authorizer: each as it reads."""
    analyst = peer("/agents/analyst")
    for expected in (
        ANALYST,
        SpiffeId.parse(ANALYST),
        [ANALYST, "spiffe://example.test/x"],
        TrustDomain("example.test"),
        member_of("example.test"),
    ):
        authorizer_for(expected)(analyst)
