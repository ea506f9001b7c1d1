"""A token that says "bound" is presented as if it were not, or one that says nothing as if it were."""

import pytest
from identity_forges import AT
from token_kinds import ACCESS_TOKEN, DPOP_PROOF, URL, claims, keys_of

from agentshield.identity.access_token import (
    InvalidAccessTokenError,
    UnboundTokenError,
    WrongKeyError,
    certificate_thumbprint,
    verify_confirmation,
)
from agentshield.identity.dpop import InvalidDpopProofError, access_token_hash, verify_dpop_proof
from agentshield.identity.jwk import thumbprint

CERTIFICATE = b"the client's certificate, DER"


@pytest.fixture
def holder(tokens_of):
    """Who the token was issued to."""
    return tokens_of()


@pytest.fixture
def issue(tokens):
    """Issue a token with this `cnf`; `...` for none."""
    return lambda cnf: tokens.token(claims(cnf=cnf), header=ACCESS_TOKEN.header(tokens))


@pytest.fixture
def read(tokens):
    """Believe a token, as far as that goes without its holder."""
    return lambda token: ACCESS_TOKEN.verify(token, tokens)


def jkt_of(forge):
    return thumbprint(keys_of(forge).keys[0].public_key)


def proof_of(forge, token, **members):
    proof = forge.token(claims(ath=access_token_hash(token), **members), header=DPOP_PROOF.header(forge))
    return verify_dpop_proof(proof, method="POST", url=URL, at=AT, access_token=token)


def test_the_holder_is_let_through(issue, read, holder):
    """What the attacks below leave out must be the reason for their refusal."""
    token = issue({"jkt": jkt_of(holder)})
    verify_confirmation(read(token), dpop=proof_of(holder, token), certificate_der=None)
    bound = issue({"x5t#S256": certificate_thumbprint(CERTIFICATE)})
    verify_confirmation(read(bound), dpop=None, certificate_der=CERTIFICATE)


def test_a_bound_token_without_its_proof_is_refused(issue, read, holder, tokens_of):
    """The commonest theft, from a log: the token alone, or with whatever proof of another kind the thief has."""
    token = issue({"jkt": jkt_of(holder)})
    for certificate in (None, CERTIFICATE):
        with pytest.raises(UnboundTokenError):
            verify_confirmation(read(token), dpop=None, certificate_der=certificate)
    bound = issue({"x5t#S256": certificate_thumbprint(CERTIFICATE)})
    for dpop in (None, proof_of(tokens_of(), bound)):
        with pytest.raises(UnboundTokenError):
            verify_confirmation(read(bound), dpop=dpop, certificate_der=None)


def test_a_right_certificate_does_not_stand_for_a_wrong_proof(issue, read, holder, tokens_of):
    """Of two proofs the token says which one counts; the other is not a second chance."""
    token = issue({"jkt": jkt_of(holder)})
    with pytest.raises(WrongKeyError):
        verify_confirmation(read(token), dpop=proof_of(tokens_of(), token), certificate_der=CERTIFICATE)
    bound = issue({"x5t#S256": certificate_thumbprint(CERTIFICATE)})
    with pytest.raises(WrongKeyError):
        verify_confirmation(read(bound), dpop=proof_of(holder, bound), certificate_der=CERTIFICATE + b"!")


def test_a_bearer_token_does_not_become_bound_by_showing_a_key(issue, read, holder):
    """Anybody can make a proof of a key of their own; it binds nothing that the issuer did not bind."""
    token = issue(...)
    with pytest.raises(UnboundTokenError):
        verify_confirmation(read(token), dpop=proof_of(holder, token), certificate_der=CERTIFICATE)


@pytest.mark.parametrize(
    "cnf",
    [
        None,
        {},
        [],
        "jkt",
        {"jkt": None},
        {"jkt": ""},
        {"jkt": "a" * 42},
        {"jkt": "a" * 44},
        {"jkt": 5},
        {"JKT": "a" * 43},
        {"x5t": "a" * 43},
        {"kid": "k"},
        {"jwk": {"kty": "EC"}},
        {"jku": "https://evil.test/"},
        {"jkt": "a" * 43, "x5t#S256": "a" * 43},
        {"jkt": "a" * 43, "x5t#S256": None},
        {"jkt": "a" * 43, "extra": 1},
    ],
)
def test_a_binding_that_is_not_understood_is_not_a_binding_skipped(cnf, issue, read):
    """RFC 7800, 3.1 lets a reader ignore what it does not know; that would make a bearer token of a bound one."""
    with pytest.raises(InvalidAccessTokenError):
        read(issue(cnf))


@pytest.mark.parametrize("ath", [..., None, "", 5, "a" * 43])
def test_a_proof_is_for_this_token(ath, issue, holder):
    """RFC 9449, 4.3 (12): the holder's proof for another token, or for the token endpoint, carries no stolen one."""
    token = issue({"jkt": jkt_of(holder)})
    proof = holder.token(claims(ath=ath), header=DPOP_PROOF.header(holder))
    with pytest.raises(InvalidDpopProofError) as caught:
        verify_dpop_proof(proof, method="POST", url=URL, at=AT, access_token=token)
    assert caught.value.step == 12


def test_a_proof_for_one_token_does_not_carry_another_of_the_same_holder(issue, holder):
    """Two tokens of one holder have two sets of rights."""
    first, second = issue({"jkt": jkt_of(holder)}), issue({"jkt": jkt_of(holder)})
    proof = holder.token(claims(ath=access_token_hash(first)), header=DPOP_PROOF.header(holder))
    assert first != second
    verify_dpop_proof(proof, method="POST", url=URL, at=AT, access_token=first)
    with pytest.raises(InvalidDpopProofError):
        verify_dpop_proof(proof, method="POST", url=URL, at=AT, access_token=second)
